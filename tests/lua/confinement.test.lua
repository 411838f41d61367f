-- What QEMU's process inherits from its caller: it is the process that a hostile guest attacks first.
local machines = require "helpers.machines"

local LOOK = "cat /proc/%s/status; echo '--- environment'; tr '\\0' '\\n' < /proc/%s/environ"

local PASSED_ON = {PATH = true, TMPDIR = true, LANG = true, LC_ALL = true, LC_CTYPE = true, TZ = true,
  LD_LIBRARY_PATH = true, QEMU_MODULE_DIR = true}

-- Both kinds: from the kernel, and from a template, whose memory is a file of the cache.
for name, options in pairs{cold = {cold = true}, template = {}} do
  test("a " .. name .. " QEMU has a filter, no capability, and no secret of the caller's", function(t)
    -- By its name, since others of this process may be starting. The second VM of a kind is restored for itself.
    local name = ("confined-%s-%d"):format(name, host.now_ns())
    options.kernel_cmdline_append = "kind=" .. name
    provium:vm("first", "default", options):boot():close()
    provium:vm(name, "default", options):boot()
    local pid = machines.started_as(name)
    t:assert(pid, "no QEMU below this process")
    local path = os.tmpname()
    t:defer(function() os.remove(path) end)
    t:assert(os.execute(("{ %s; } > %s"):format(LOOK:format(pid, pid), path)))
    local file = io.open(path)
    local status, environment = file:read("a"):match("^(.-)%-%-%- environment\n(.*)$")
    file:close()
    t:assert_contains(status, "\nSeccomp:\t2\n")
    t:assert_contains(status, "\nNoNewPrivs:\t1\n")
    for _, set in ipairs{"Inh", "Prm", "Eff", "Amb"} do
      t:assert_contains(status, "\nCap" .. set .. ":\t0000000000000000\n")
    end
    for variable in environment:gmatch("([^\n=]+)=[^\n]*") do
      t:assert(PASSED_ON[variable], variable .. " is passed on to QEMU")
    end
  end)
end
