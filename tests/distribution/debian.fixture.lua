-- A Debian in which systemd has started everything: later tests restore it instead of waiting for that.
local vm = provium:vm("debian", "debian"):boot()
vm:wait_for{socket = "/run/systemd/private", timeout = "2m"}
vm:check("systemctl is-system-running --wait", {timeout = "5m"})
return vm:snapshot()
