-- Built once, restored in a moment by every test that asks for it, and built again only when something
-- that it reads here has changed. Reference: docs/reference/fixtures.md.
local vm = provium:vm("db", "peios"):boot()
vm:check("mkdir -p /srv/db && for i in 1 2 3; do echo row $i; done > /srv/db/table")
vm:check("(while true; do date > /srv/db/heartbeat; sleep 1; done >/dev/null 2>&1 &)")
return vm:snapshot()
