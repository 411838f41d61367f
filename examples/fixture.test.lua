-- Each test begins with the same prepared VM and may change it in any way.
test("the table can be read", function(t)
  local db = provium:vm_fixture("database.fixture.lua")
  t:assert_eq(db:read_file("/srv/db/table"), "row 1\nrow 2\nrow 3\n")
end)

test("a lost table is noticed", function(t)
  local db = provium:vm_fixture("database.fixture.lua")
  db:unlink("/srv/db/table")
  t:assert_raises(function() db:read_file("/srv/db/table") end)
end)

test("the table is there again, and the server still runs", function(t)
  local db = provium:vm_fixture("database.fixture.lua")
  t:assert_contains(db:read_file("/srv/db/table"), "row 3")
  db:unlink("/srv/db/heartbeat")
  db:wait_for{file = "/srv/db/heartbeat"}
end)
