-- Many VMs from one template: all answer, and each costs what it touches. Slow, since it has the pool to
-- itself: `make test` runs it alone.

local COUNT = 32
test("32 VMs at once", {slow = true, timeout = "200s"}, function(t)
  local ok, why = pcall(provium.claim, provium, {memory = "8G"})
  if not ok then t:skip("the pool is too small: " .. tostring(why)) end
  local lab = provium:lab("fan")
  for i = 1, COUNT do lab:vm("f" .. i, "default", {memory = "128M"}) end
  lab:boot()
  local tasks = {}
  for i = 1, COUNT do
    tasks[i] = co.spawn(function() return lab:vm("f" .. i):run("hostname; cat /proc/sys/kernel/random/boot_id").stdout end)
  end
  local seen, memory, from_template = {}, 0, 0
  for i, task in ipairs(tasks) do
    local name, boot = task:join("60s"):match("^(%S+)\n(%S+)\n$")
    t:assert_eq(name, "f" .. i)
    t:assert(not seen[boot], "each has its own boot id")
    seen[boot] = true
  end
  for i = 1, COUNT do
    local stats = lab:vm("f" .. i):stats()
    memory = memory + stats.proportional_memory
    if stats.boot_kind == "template" then from_template = from_template + 1 end
  end
  t:assert(from_template >= COUNT - 1, "one at most has made the template")
  t:log(("proportional memory of a VM: %.1f MiB"):format(memory / COUNT / 2 ^ 20))
  t:assert(memory / COUNT < 64 * 2 ^ 20, "a VM has a copy of what it writes, and of nothing else")
end)
