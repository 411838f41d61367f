//! Labs, VMs and their options, as far as no guest is needed.

use super::*;
use provium_lab::Profile;

pub(super) fn with_profile(source: &str) -> Case {
    let mut case = Case::new(source);
    let profiles = vec![Profile::default_guest("p")];
    let environment = Environment::without_machines(
        profiles,
        case.job.sink.clone(),
        case.runtime.handle().clone(),
    );
    case.job.environment = Arc::new(environment);
    case
}

#[test]
fn names_scopes_and_values() {
    with_profile(
        r#"
local file_vm = provium:vm("shared", "p", {memory = "64M", cpus = 1})
local inner = provium:lab("inner")
test("look-up", function(t)
  t:assert_eq(provium:vm("shared"), file_vm)
  t:assert_eq(provium.shared, file_vm)
  t:assert_eq(provium.inner, inner)
  t:assert_eq(provium.nothing, nil)
  t:assert_eq(({[file_vm] = 1})[provium.shared], 1)
  t:assert_eq(tostring(file_vm), "vm `shared`")
  t:assert_eq(file_vm:state(), "created")
  t:assert_eq(file_vm:profile(), "p")
  t:assert_eq(file_vm:cid(), nil)
  t:assert_eq(provium:name(), "provium")
  t:assert_eq(rawequal(file_vm:console(), file_vm:console()), true)
  local mine = provium:vm("mine", "p")
  t:assert_eq(provium.mine, mine)
  t:assert_same(provium:vm_names(), {"mine"})
  t:assert_same(provium:members(), {{kind = "vm", name = "mine"}})
  t:assert_contains(t:assert_raises(function() provium:vm("shared", "p") end), "shared")
end)
test("gone with its scope", function(t)
  t:assert_eq(provium.mine, nil)
  t:assert_contains(t:assert_raises(function() provium:vm("mine") end), "lab `provium`: vm(\"mine\")")
end)
test("sub-labs", function(t)
  local a = inner:vm("a", "p")
  t:assert_eq(inner.a, a)
  t:assert_eq(provium.a, nil)
  t:assert_eq(provium:lab("inner"), inner)
  t:assert_match(provium:lab():name(), "^__lab_%d+$")
  inner:remove("a")
  t:assert_eq(inner.a, nil)
  inner:include{a}
  t:assert_same(inner:vm_names(), {"a"})
end)
test("pack", function(t)
  t:assert_eq(provium:pack("<I4", 1), "\1\0\0\0")
  t:assert_eq((provium:unpack("<I4", "\1\0\0\0")), 1)
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn refusals() {
    with_profile(
        r#"
local vm = provium:vm("v", "p")
local function refused(t, fn, ...)
  local err = t:assert_raises(fn)
  for _, part in ipairs{...} do t:assert_contains(err, part) end
end
test("refused", function(t)
  refused(t, function() vm:rnu("x") end, "vm has no method `rnu`; did you mean `run`?")
  refused(t, function() vm:boot{memroy = "1G"} end, "vm `v`: boot(): unknown option `memroy`; did you mean `memory`?")
  refused(t, function() vm:boot{memory = "lots"} end, "option `memory`: `lots` is not a size")
  refused(t, function() vm:run("true") end, "a.test.lua:11: vm `v`: run(\"true\") needs state booted", "it is created")
  for _, call in ipairs{"snapshot", "restore"} do
    refused(t, function() vm[call](vm, "") end, ("vm `v`: %s(): the path on the host must not be empty"):format(call))
  end
  for _, call in ipairs{"pull_file", "pull_dir"} do
    refused(t, function() vm[call](vm, "/x", "") end, ("vm `v`: %s(): the path on the host must not be empty"):format(call))
  end
  refused(t, function() vm:push_dir("", "/x") end, "vm `v`: push_dir(): the path on the host must not be empty")
  refused(t, function() vm.run("x") end, "vm:run: needs a vm before its arguments, got \"x\"")
  refused(t, function() vm:run_async("x", {timeout = 1}) end, "proc:wait")
  refused(t, function() vm:run(42) end, "the command: must be a string or a list of strings, got 42")
  refused(t, function() vm:run("x", {"a", env = {}}) end, "options go next to")
  refused(t, function() vm:run("x", {tiemout = 1}) end, "did you mean `timeout`?")
  refused(t, function() vm:spawn_worker{thread = true} end, "option `thread`", "future work")
  refused(t, function() vm:open_file("/x", {raed = true}) end, "did you mean `read`?")
  refused(t, function() vm:read_file() end, "vm `v`: read_file(): the path: must be a string, got nil")
  refused(t, function() vm:syscall("opnat") end, "did you mean `openat`?")
  refused(t, function() vm:syscall(1, 2, 3, 4, 5, 6, 7, 8) end, "at most 6 arguments")
  refused(t, function() vm:syscall(1, 1.5) end, "argument 1: must be an integer, got 1.5")
  refused(t, function() vm:syscall(1, {bufs = {"x"}, ptrs = {6}}) end, "6 is not an argument slot")
  refused(t, function() vm:syscall(1, {bufs = {"x"}, ptrs = {1, 2}}) end, "ptrs[2]: there are 1 bufs")
  refused(t, function() vm:syscall(1, {bufs = {"x", "y"}, nested = {{parent = 1, child = 2, offset = 0}}}) end, "nested[1]: offset 0")
  refused(t, function() vm:syscall(1, {bufs = {{out = 8}, "y"}, nested = {{parent = 1, child = 3}}}) end, "child 3: there are 2 bufs")
  refused(t, function() vm:syscall(1, {bufs = {{out = 8, align = 3}}}) end, "align")
  refused(t, function() vm:syscall("openat", 1) end, "vm `v`: syscall(\"openat\") needs state booted")
  refused(t, function() vm:syscall_async(39) end, "vm `v`: syscall_async(39) needs state booted")
  refused(t, function() vm:ioctl(3, 0x5401) end, "vm `v`: ioctl(3, 0x5401) needs state booted")
  refused(t, function() vm.nothing = 1 end, "a vm cannot be changed")
  refused(t, function() provium.timout = 1 end, "provium.timout: unknown setting `timout`; did you mean `timeout`?")
  refused(t, function() provium.retries = 1 end, "only at file scope")
  refused(t, function() provium:vm("w", "q") end, "no profile `q`")
  refused(t, function() provium:vm("pack", "p") end, "pack")
  refused(t, function() provium:claim{} end, "say how much")
  refused(t, function() vm:batch(function(b) b:chmod("x") end) end, "batch has no method `chmod`")
  refused(t, function() vm:boot() end, "vm `v`: boot()")
  vm:close()
  vm:close()
end)
"#,
    )
    .run()
    .all_passed();
}

#[test]
fn settings_count() {
    let ran = with_profile(
        "provium.timeout = '100ms'\nprovium.retries = 1\n\
         test('slow', function() host.sleep(30) end)\n\
         test('own', {timeout = '200ms', retries = 0}, function() host.sleep(30) end)",
    )
    .run();
    assert_eq!(
        ran.failure("slow"),
        "timed out after 100ms in host.sleep(30)"
    );
    assert_eq!(ran.test("slow").attempts, 2);
    assert_eq!(
        ran.failure("own"),
        "timed out after 200ms in host.sleep(30)"
    );
    assert_eq!(ran.test("own").attempts, 1);
}

#[test]
fn barriers_bring_tasks_together() {
    passes(
        r#"
test("barrier", function(t)
  local order = {}
  local tasks = {}
  for i = 1, 3 do
    tasks[i] = co.spawn(function()
      host.sleep(0.01 * i)
      provium:barrier("start", 3, "5s")
      order[#order + 1] = i
    end)
  end
  for i = 1, 3 do tasks[i]:join() end
  t:assert_eq(#order, 3)
  local err = t:assert_raises(function() provium:barrier("alone", 2, "20ms") end)
  t:assert_contains(err, "1 of 2")
  local err = t:assert_raises(function() provium:barrier("alone", 2, 0) end)
  t:assert_contains(err, "timed out after 0s")
end)
"#,
    );
}
