-- Two workers are two threads of control inside one guest: what they start runs in parallel.
-- The profile `peios` is defined in provium.toml, next to this file.
test("two concurrent writers don't tear", function(t)
local vm = provium:vm("v", "peios"):boot()
local w1 = vm:spawn_worker()
local w2 = vm:spawn_worker()
-- Each worker writes its own block of data, in parallel.
local p1 = w1:run_async("dd", {args = {"if=/dev/urandom", "of=/tmp/a", "bs=1M", "count=8"}})
local p2 = w2:run_async("dd", {args = {"if=/dev/urandom", "of=/tmp/b", "bs=1M", "count=8"}})
p1:wait("60s"):assert_ok()
p2:wait("60s"):assert_ok()
t:assert_eq(vm:stat("/tmp/a").size, 8 * 1024 * 1024)
t:assert_eq(vm:stat("/tmp/b").size, 8 * 1024 * 1024)
end)
