-- A stock Debian with systemd, whose root is on a disk.
provium.timeout = "15m"

-- Built by the first test, restored by all.
local DOWNLOAD = {tags = {"download"}, timeout = "12m"}

-- PID 1 has opened its socket, and its jobs are done.
local function wait_until_up(vm)
  vm:wait_for{socket = "/run/systemd/private", timeout = "2m"}
  return vm:check("systemctl is-system-running --wait", {timeout = "5m"}).stdout
end

test("systemd reaches multi-user.target", DOWNLOAD, function(t)
  local debian = provium:vm_fixture("debian")
  t:assert_eq(debian:check("systemctl is-system-running").stdout, "running\n")
  t:assert_eq(debian:check("systemctl is-active multi-user.target").stdout, "active\n")
  t:assert_eq(debian:read_file("/proc/1/comm"), "systemd\n")
  t:assert_contains(debian:check("findmnt --noheadings --output SOURCE,FSTYPE /").stdout, "ext4")
  t:assert_eq(debian:check("systemctl list-units --failed --plain --no-legend").stdout, "")
end)

test("a unit of the test is started and its journal read", DOWNLOAD, function(t)
  local debian = provium:vm_fixture("debian")
  debian:write_file("/etc/systemd/system/greet.service", [[
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/echo greetings from a unit
]])
  debian:check("systemctl daemon-reload && systemctl start greet")
  t:assert_eq(debian:check("systemctl is-active greet").stdout, "active\n")
  debian:wait_for{succeeds = "journalctl --unit greet --output cat | grep -q 'greetings from a unit'", timeout = "1m"}
end)

test("owners and modes are those of the distribution", DOWNLOAD, function(t)
  local debian = provium:vm_fixture("debian")
  local function facts(path)
    return debian:check("stat --format '%U:%G %a' " .. path).stdout
  end
  t:assert_eq(facts("/etc/shadow"), "root:shadow 640\n")
  t:assert_eq(facts("/usr/bin/passwd"), "root:root 4755\n")
  t:assert_eq(facts("/var/mail"), "root:mail 2775\n")
  t:assert_eq(facts("/tmp"), "root:root 1777\n")
end)

test("it reboots, and its disk keeps what was written", DOWNLOAD, function(t)
  local debian = provium:vm_fixture("debian")
  debian:write_file("/var/lib/kept", "kept")
  debian:check("sync")
  debian:reset()
  t:assert_eq(wait_until_up(debian), "running\n")
  t:assert_eq(debian:read_file("/var/lib/kept"), "kept")
end)

test("a second VM boots from the template, with a root of its own", DOWNLOAD, function(t)
  local debian = provium:vm_fixture("debian")
  debian:write_file("/var/lib/mine", "mine")
  local second = t:vm("second", "debian"):boot()
  t:assert_eq(second:stats().boot_kind, "template")
  t:assert(not second:exists("/var/lib/mine"))
end)
