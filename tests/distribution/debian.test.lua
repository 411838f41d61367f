-- A stock Debian with systemd, whose root is on a disk. Its packages are downloaded: `make distribution` runs it.
provium.timeout = "20m"

-- The first boot of all is cold, and may follow a download.
local DOWNLOAD = {tags = {"download"}, timeout = "10m"}

test("systemd reaches multi-user.target", DOWNLOAD, function(t)
  local debian = provium:vm("debian", "debian"):boot()
  t:assert_eq(debian:check("systemctl is-system-running").stdout, "running\n")
  t:assert_eq(debian:check("systemctl is-active multi-user.target").stdout, "active\n")
  t:assert_eq(debian:check("systemctl list-units --failed --plain --no-legend").stdout, "")
  t:assert_eq(debian:read_file("/proc/1/comm"), "systemd\n")
  t:assert_match(debian:read_file("/proc/mounts"), "/dev/vda / ext4 rw")
end)

test("a unit of the test is started, and its journal read", DOWNLOAD, function(t)
  local debian = provium:vm("debian", "debian"):boot()
  debian:write_file("/etc/systemd/system/greet.service", [[
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/echo greetings from a unit
]])
  debian:check("systemctl daemon-reload && systemctl start greet")
  t:assert_eq(debian:check("systemctl is-active greet").stdout, "active\n")
  debian:wait_for{
    succeeds = "journalctl --unit greet --output cat | grep 'greetings from a unit'",
    timeout = "1m",
  }
end)

test("owners and modes are those of the distribution", DOWNLOAD, function(t)
  local debian = provium:vm("debian", "debian"):boot()
  local function facts(path)
    return debian:check("stat --format '%U:%G %a' " .. path).stdout
  end
  t:assert_eq(facts("/etc/shadow"), "root:shadow 640\n")
  t:assert_eq(facts("/usr/bin/passwd"), "root:root 4755\n")
  t:assert_eq(facts("/var/mail"), "root:mail 2775\n")
  t:assert_eq(facts("/tmp"), "root:root 1777\n")
end)

test("it reboots, and its disk keeps what was written", DOWNLOAD, function(t)
  local debian = provium:vm("debian", "debian"):boot()
  debian:write_file("/var/lib/kept", "kept")
  debian:check("sync")
  local before = debian:read_file("/proc/sys/kernel/random/boot_id")
  debian:reset()
  t:assert(debian:read_file("/proc/sys/kernel/random/boot_id") ~= before)
  t:assert_eq(debian:check("systemctl is-system-running").stdout, "running\n")
  t:assert_eq(debian:read_file("/var/lib/kept"), "kept")
end)

test("two VMs of one template have roots of their own", DOWNLOAD, function(t)
  local first, second = provium:vm("first", "debian"):boot(), provium:vm("second", "debian"):boot()
  t:assert_eq(second:stats().boot_kind, "template")
  first:write_file("/var/lib/mine", "mine")
  first:check("sync")
  t:assert(not second:exists("/var/lib/mine"))
  t:assert_eq(second:check("systemctl is-system-running").stdout, "running\n")
  t:assert_eq(second:check("hostname").stdout, "second\n")
end)
