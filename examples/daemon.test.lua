-- A daemon: start it, wait until it listens, talk to it, have it read its configuration again.

local vm = provium:vm("greeter", "default"):boot()

-- A small server. What it says is configured, and it reads its configuration again on SIGHUP.
vm:write_file("/usr/sbin/greeter", [[
#!/bin/sh
load() {
  cp /etc/greeter.conf /run/greeting
  echo "loaded: $(cat /run/greeting)" >> /var/log/greeter.log
}
trap load HUP
load
nc -ll -p 7000 -e /usr/sbin/greet &
while true; do wait; done
]], {perm = "0755"})
vm:write_file("/usr/sbin/greet", [[
#!/bin/sh
read name
echo "$(cat /run/greeting), $name!"
]], {perm = "0755"})
vm:mkdir("/run", {parents = true})
vm:mkdir("/var/log", {parents = true})
vm:write_file("/etc/greeter.conf", "Hello")

local server = vm:run_async("/usr/sbin/greeter")
vm:wait_for{port = 7000}

local function greet(name)
  local conn = vm:connect(7000)
  conn:send(name .. "\n")
  return conn:read_until("\n")
end

test("the server greets", function(t)
  t:assert_eq(greet("Ada"), "Hello, Ada!\n")
end)

test("the server reads its configuration again on SIGHUP", function(t)
  local log = vm:tail_file("/var/log/greeter.log")
  vm:write_file("/etc/greeter.conf", "Good morning")
  server:signal("hup")
  log:expect("loaded: Good morning")
  t:assert_eq(greet("Ada"), "Good morning, Ada!\n")
end)

test("clients are served side by side", function(t)
  local slow = vm:connect(7000)
  t:assert_contains(greet("Grace"), "Grace")
  slow:send("Ada\n")
  slow:expect("Ada")
end)
