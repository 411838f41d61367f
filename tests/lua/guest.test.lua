-- What a guest is made of: the agent's copy, files that cannot be, memory and arguments that do not fit.

local function fails(t, fn, ...)
  local err = tostring(t:assert_raises(fn))
  for _, part in ipairs{...} do t:assert_contains(err, part) end
end

local count = 0
local function boot(opts)
  count = count + 1
  return provium:vm("v" .. count, "default", opts):boot()
end

local shared = provium:vm("shared", "default"):boot()

test("the agent's executable is a program that tests can use", function(t)
  local path = "/sbin/provium-agent"
  local found = shared:stat(path)
  t:assert_eq(found.perm, 0x1ed)
  t:assert(found.size > 100000, found.size)
  t:assert_eq(shared:read_file(path):sub(1, 4), "\127ELF")
  shared:run("cp " .. path .. " /tmp/copy && chmod 4711 " .. path):assert_ok()
  for _, program in ipairs{path, "/tmp/copy"} do
    local idle = shared:run_async(program, {"--port", "7101"})
    -- It stays, so what looks at it afterwards finds it.
    local exe = shared:run("readlink /proc/" .. idle:pid() .. "/exe").stdout
    t:assert_eq(exe, shared:run("readlink -f " .. program).stdout)
    idle:kill(15)
    t:assert_eq(idle:wait().signal, 15)
  end
  -- The mode bits of the copy are not those of the running agent.
  shared:run("chmod 0 " .. path .. " && modprobe dummy"):assert_ok()
end)

test("the agent says what it can be started as", function(t)
  for _, arguments in ipairs{{"--help"}, {"--port"}, {"x", "y"}} do
    local result = shared:run("/tmp/copy", arguments)
    t:assert_eq(result.exit_code, 2)
    t:assert_contains(result.stderr, "usage: provium-agent [--port N]")
  end
  local second = shared:run({"/tmp/copy"})
  t:assert_eq(second.exit_code, 1)
  t:assert_eq(second.stderr, "provium-agent: an agent serves this guest already\n")
end)

test("the host's name is where programs look for it", function(t)
  t:assert_eq(shared:read_file("/etc/hostname"), "shared\n")
  t:assert_eq(provium:vm("other", "default"):boot():run("cat /etc/hostname").stdout, "other\n")
end)

test("files that the guest would not have are refused before it boots", function(t)
  for path, why in pairs{
    ["/.provium/agent"] = "the agent's own files are there",
    ["/tmp"] = "a directory",
    ["/tmp/x/"] = "slash",
    ["/proc/x"] = "mounts",
    ["/sys/x"] = "mounts",
    ["/dev/x"] = "mounts /dev",
    ["/" .. ("x"):rep(256)] = "too long",
  } do
    fails(t, function() boot{files = {{path = path, content = ""}}} end,
      "boot()", "files: `" .. path .. "` cannot be a file in the guest", why)
  end
end)

test("an rdinit= beside the injected agent is refused", function(t)
  for _, key in ipairs{"kernel_cmdline", "kernel_cmdline_append"} do
    fails(t, function() boot{[key] = "rdinit=/bin/sh"} end,
      "`rdinit=/bin/sh`", "conflicts with the injected agent", "inject_agent = false")
  end
end)

test("memory that cannot hold the kernel is refused with the sizes", function(t)
  for _, memory in ipairs{"32M", "48M"} do
    local before = host.now_ns()
    fails(t, function() boot{memory = memory} end,
      "memory is " .. memory:sub(1, 2) .. " MiB, but the guest cannot start in less than", "its kernel takes")
    t:assert((host.now_ns() - before) / 1e9 < 25, "before it boots")
  end
end)

test("an /init that cannot be run fails the boot, with its name and the reason", function(t)
  for _, init in ipairs{
    {"#!/bin/sh\n", 0x1a4, "EACCES (Permission denied); the file is not executable"},
    {"#!/nowhere\n", 0x1ed, "ENOENT (No such file or directory); the file exists, but not the interpreter"},
  } do
    local content, perm, why = table.unpack(init)
    fails(t, function() boot{files = {{path = "/init", content = content, perm = perm}}} end,
      "boot(): the agent says: cannot run /init: " .. why)
  end
end)
