-- Disks: what a guest reads and writes, what a disk adds to a boot, how fast crash states are tried.
local figures = require "figures"
local row, seconds, median = figures.row, figures.seconds, figures.median

local ROUNDS = 5

-- What is timed, with the mebibytes that it moves.
local LOADS = {
  {"read, 1 MiB", 64, "if=/dev/vda of=/dev/null bs=1M count=64 iflag=direct"},
  {"write, 1 MiB", 64, "if=/dev/zero of=/dev/vda bs=1M count=64 oflag=direct"},
  {"read, 4 KiB", 8, "if=/dev/vda of=/dev/null bs=4k count=2048 iflag=direct"},
  {"write, 4 KiB", 8, "if=/dev/zero of=/dev/vda bs=4k count=2048 oflag=direct"},
}

-- The same with a QEMU without anything of Provium; nil if the server is not installed.
local function plain(how)
  local pipe = io.popen(("%s/plain-disk %s %s %s"):format(figures.folder, figures.kernel, figures.initrd, how))
  local rates = table.pack(pipe:read("n", "n", "n", "n"))
  local _, _, code = pipe:close()
  if code == 3 then return nil end
  assert(rates[4], "plain-disk failed")
  return rates
end

test("a guest reads and writes", {timeout = "600s"}, function(t)
  local vm = provium:vm("io", "default", {disks = {{scratch = "64M"}}}):boot()
  local ours = {}
  -- The first round allocates the overlay.
  for i = 0, ROUNDS do
    for _, which in ipairs{2, 1, 4, 3} do
      local load = LOADS[which]
      ours[which] = ours[which] or {}
      local took = seconds(function() vm:check("dd " .. load[3]) end)
      if i > 0 then ours[which][i] = load[2] / took end
    end
  end
  vm:close()
  for which, load in ipairs(LOADS) do
    row("disk of a guest, " .. load[1], median(ours[which]), "MiB/s", "dd past the guest's cache; one at a time")
  end
  for _, how in ipairs{"raw", "qemu-nbd", "nbdkit"} do
    local rates = plain(how)
    for which, load in ipairs(LOADS) do
      local what = ("disk of a guest, %s / %s"):format(load[1], how)
      if rates then
        local aim = how == "raw" and which < 3 and "; aim: 0.9 at least" or how == "qemu-nbd" and "; aim: 1 at least" or ""
        row(what, median(ours[which]) / rates[which], "ratio", ("%s in a plain QEMU: %.1f MiB/s%s"):format(how, rates[which], aim))
      else
        row(what, 0, "ratio", "skipped: " .. how .. " is not installed")
      end
    end
  end
end)

test("a disk and a boot", {timeout = "600s"}, function(t)
  local times = {[0] = {}, {}, {}}
  for i = -2, ROUNDS * 2 do
    for count = 0, 2 do
      local disks = {}
      for n = 1, count do disks[n] = {scratch = ("%dM"):format(16 * (i + 8))} end
      local vm = provium:vm(("boot-%d-%d"):format(count, i), "default", {disks = disks})
      local took = seconds(function()
        vm:boot()
        vm:syscall("getpid")
      end)
      if i > 0 then
        t:assert_eq(vm:stats().boot_kind, "template")
        times[count][i] = took
      end
      vm:close()
    end
  end
  for count = 0, 2 do row(("boot of a warm VM to the first call, %d disks"):format(count), median(times[count]), "s") end
  row("boot of a warm VM, 1 disk / none", median(times[1]) / median(times[0]), "ratio", "aim: 1.25 at most")
  local vm = provium:vm("plug", "default"):boot()
  local plugs = {}
  for i = 0, ROUNDS do
    local disk
    local took = seconds(function() disk = vm:attach_disk{size = "16M"} end)
    if i > 0 then plugs[i] = took end
    disk:detach()
  end
  row("a disk that is plugged into a running guest", median(plugs), "s", "until the guest can use it")
end)

test("crash states", {timeout = "600s"}, function(t)
  local image = os.tmpname()
  t:defer(function() os.remove(image) end)
  local made = os.execute(("PATH=$PATH:/sbin:/usr/sbin mke2fs -q -F -t ext4 %s 64M"):format(image))
  if not made then
    row("crash states of an ext4 file system, 64 MiB", 0, "/s", "skipped: mke2fs is not installed (e2fsprogs)")
    return
  end
  local vm = provium:vm("crash", "default", {disks = {{id = "data", template = image}}}):boot()
  local disk = vm:disk("data")
  vm:check("mkdir -p /mnt && mount -t ext4 /dev/vda /mnt")
  local mark = disk:mark()
  vm:check("cd /mnt; for i in $(seq 40); do echo $i > file-$i; [ $((i % 5)) != 0 ] || sync; done; cd /; umount /mnt")
  local function rate(fn)
    local result = disk:crash_states(fn, {since = mark, most = 200, keep_going = true})
    return result.tested / result.seconds, result.tested
  end
  local empty, states = rate(function() end)
  row("crash states, put on the disk of a guest", empty, "/s", ("ext4, 64 MiB; %d states; aim: 20 at least"):format(states))
  local mounted = rate(function(_, copy) copy:check("mount -t ext4 /dev/vda /mnt; ls /mnt > /dev/null; umount /mnt") end)
  row("crash states, each mounted and listed", mounted, "/s", "the same states")
end)
