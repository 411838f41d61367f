-- Tests that would get in each other's way, at the same time: each has its own copy of the VM.

provium.parallel = true

-- The top level runs once, whatever it takes.
local vm = provium:vm("prepared", "default"):boot()
vm:check("mkdir /queue; touch /queue/a /queue/b /queue/c")
local service = vm:run_async("while read name; do rm /queue/$name && echo removed $name; done")

for _, name in ipairs({ "a", "b", "c" }) do
  test("the service removes " .. name .. " and nothing else", function(t)
    t:assert_eq(#vm:listdir("/queue"), 3, "no other test has removed anything here")

    -- `vm` and `service` are this test's copies, the service still as it was.
    local output = service:stdout_stream()
    service:stdin_write(name .. "\n")
    output:expect("removed " .. name)
    t:assert_eq(#vm:listdir("/queue"), 2)
  end)
end
