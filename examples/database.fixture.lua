-- Built once, restored for every test that uses it, and built again only when something that the script
-- reads has changed. Reference: docs/reference/fixtures.md.
local vm = provium:vm("db", "default"):boot()
vm:check("mkdir -p /srv/db && for i in 1 2 3; do echo row $i; done > /srv/db/table")
vm:check("(while true; do date > /srv/db/heartbeat; sleep 1; done >/dev/null 2>&1 &)")
return vm:snapshot()
