-- A cluster of three etcd servers loses its leader to a partition and gets it back: all that it has acknowledged is
-- still there. The profile `etcd` is defined in provium.toml, next to this file.
provium.timeout = "5m"

-- Three VMs of one kind on one bridge, booted in parallel. They know each other by name: etcd1, etcd2, etcd3.
local lan = provium:bridge("lan")
local nodes, cluster = {}, {}
for i = 1, 3 do
  local name = "etcd" .. i
  nodes[i] = provium:vm(name, "etcd", {nics = {lan}})
  cluster[i] = name .. "=http://" .. name .. ":2380"
end
provium:boot()

-- No server waits for another, so all are started at once. Guests may be slow and must not look like lost ones, so
-- heartbeats and elections take twice as long as by default.
for _, node in ipairs(nodes) do
  local name = node:name()
  node:run_async("etcd", {args = {
    "--name", name,
    "--data-dir", "/tmp/etcd",
    "--initial-cluster", table.concat(cluster, ","),
    "--listen-peer-urls", "http://0.0.0.0:2380",
    "--initial-advertise-peer-urls", "http://" .. name .. ":2380",
    "--listen-client-urls", "http://0.0.0.0:2379",
    "--advertise-client-urls", "http://" .. name .. ":2379",
    "--heartbeat-interval", "200", "--election-timeout", "2000",
  }})
end

-- What `etcdctl` prints when it runs beside one of the servers and asks that one; nil if it fails.
local function etcdctl(node, ...)
  local result = node:run("etcdctl", {"--command-timeout=2s", ...})
  return result:ok() and result.stdout or nil
end

-- What etcd has acknowledged, by key.
local acknowledged = {}

-- Asks a server to write; returns whether it has acknowledged. A write that it has not acknowledged may be there later
-- or not, so nothing is expected of it.
local function put(node, key, value)
  local done = etcdctl(node, "put", key, value) ~= nil
  if done then acknowledged[key] = value end
  return done
end

-- An election takes its time, and nothing is acknowledged meanwhile: this asks again until it is.
local function put_until_done(node, key, value)
  wait_until(function() return put(node, key, value) end, {timeout = "60s", desc = "a write at " .. node:name()})
end

-- All that a server has, by key. By default, etcd's reads are linearizable: the answer has all that was acknowledged.
local function contents(node)
  local function read() return etcdctl(node, "get", "--prefix", "") end
  local found = {}
  for key, value in wait_until(read, {timeout = "60s", desc = "a read at " .. node:name()}):gmatch("(.-)\n(.-)\n") do found[key] = value end
  return found
end

-- The one of `candidates` that says that it leads the cluster, once one does.
local function find_leader(candidates)
  return wait_until(function()
    for _, node in ipairs(candidates) do
      local answer = etcdctl(node, "endpoint", "status", "--write-out=json")
      local status = answer and json.decode(answer)[1].Status
      if status and status.leader == status.header.member_id then return node end
    end
  end, {timeout = "60s", desc = "a leader"})
end

-- Packages are downloaded for it: `provium --no-tag download` leaves it out.
test("no acknowledged write is lost in a split", {tags = {"download"}}, function(t)
  local leader = find_leader(nodes)
  local followers = {}
  for _, node in ipairs(nodes) do
    if node ~= leader then followers[#followers + 1] = node end
  end

  -- A client that writes all the time, also at the instants of the split and of the healing.
  local healed = false
  local client = co.spawn(function()
    local i = 0
    while not healed do
      i = i + 1
      put(followers[1], "client/" .. i, "value " .. i)
    end
  end)
  for _, node in ipairs(nodes) do put_until_done(node, "before/" .. node:name(), "the cluster is whole") end

  -- The leader on one side, two followers on the other. The split ends with the function, also if it fails.
  lan:during("2m", {groups = {{leader}, followers}}, function()
    find_leader(followers)
    put_until_done(followers[2], "split/majority", "two of three")
    t:assert(not put(leader, "split/minority", "one of three"), "one of three must not acknowledge")
  end)
  t:assert(lan:counters(leader, followers[1]).drops.partition > 0, "the fault has acted")

  -- Together again: the old leader takes writes, and each server has all that any has acknowledged.
  put_until_done(leader, "after", "the cluster is whole again")
  healed = true
  client:join("30s")
  for _, node in ipairs(nodes) do
    local found = contents(node)
    for key, value in pairs(acknowledged) do t:assert_eq(found[key], value, key .. " at " .. node:name()) end
  end
end)
