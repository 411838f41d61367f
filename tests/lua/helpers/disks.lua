-- Sectors and blocks of a guest's disk, read and written by its own system calls.
local disks = {}

local AT_FDCWD, O_RDONLY, O_RDWR, O_DIRECT = -100, 0, 2, 0x4000

-- A file descriptor of the disk in the raw process of `vm`: without the page cache, unless `cached`.
function disks.open(vm, disk, options)
  options = options or {}
  local flags = (options.readonly and O_RDONLY or O_RDWR) | (options.cached and 0 or O_DIRECT)
  local opened = vm:syscall("openat", {args = {AT_FDCWD, 0, flags}, bufs = {disk:node() .. "\0"}, ptrs = {1}})
  assert(opened.ret >= 0, disk:node() .. ": " .. tostring(opened.errname))
  return opened.ret
end

-- What a system call of the guest gives: 0 or more, and the name of its error.
function disks.pread(vm, fd, sector, count)
  local r = vm:syscall("pread64", {
    args = {fd, 0, count * 512, sector * 512}, bufs = {{out = count * 512, align = 4096}}, ptrs = {1},
  })
  return r.ret >= 0 and r.out_bufs[1]:sub(1, r.ret) or nil, r.errname
end

function disks.pwrite(vm, fd, sector, data)
  local r = vm:syscall("pwrite64", {
    args = {fd, 0, #data, sector * 512}, bufs = {{inp = data, align = 4096}}, ptrs = {1},
  })
  return r.ret, r.errname
end

function disks.fsync(vm, fd)
  local r = vm:syscall("fsync", fd)
  return r.ret, r.errname
end

-- Sectors as `dd` of the guest reads and writes them, past its page cache.
function disks.dd_read(vm, disk, sector, count)
  local dd = "dd if=%s bs=512 skip=%d count=%d iflag=direct status=none"
  return vm:check(dd:format(disk:node(), sector, count)).stdout
end

function disks.dd_write(vm, disk, sector, data)
  local dd = "dd of=%s bs=512 seek=%d iflag=fullblock oflag=direct status=none"
  vm:check(dd:format(disk:node(), sector), {stdin = data})
end

-- `count` sectors that differ from each other and from those of another word.
function disks.sectors(word, count)
  local all = {}
  for number = 1, count do
    local text = ("%s %d "):format(word, number)
    all[number] = (text .. ("."):rep(512 - #text))
  end
  return table.concat(all)
end

-- A folder of the host, which is removed when the file has ended. `put(name, content)` gives the path of a file in it.
function disks.folder()
  local path = os.tmpname()
  os.remove(path)
  os.execute("mkdir " .. path)
  local made = {path}
  local folder = {}
  function folder.path(name)
    table.insert(made, path .. "/" .. name)
    return path .. "/" .. name
  end
  function folder.mkdir(name)
    local here = folder.path(name)
    os.execute("mkdir " .. here)
    return here
  end
  function folder.put(name, content)
    local here = folder.path(name)
    local file = io.open(here, "wb")
    file:write(content)
    file:close()
    return here
  end
  return setmetatable(folder, {__gc = function()
    for place = #made, 1, -1 do os.remove(made[place]) end
  end})
end

-- The content of a file of the host.
function disks.content(path)
  local file = io.open(path, "rb")
  local content = file:read("a")
  file:close()
  return content
end

return disks
