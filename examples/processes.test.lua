-- Commands that run while the test continues: their input, output, signals and exit.
local vm = provium:vm("shared", "default"):boot()

test("talk to a program", function(t)
  local calculator = vm:run_async("while read a b; do echo $((a * b)); done")
  local answers = calculator:stdout_stream()
  calculator:stdin_write("6 7\n")
  t:assert_eq(answers:read_until("\n"), "42\n")
  calculator:stdin_write("20 5\n")
  t:assert_eq(answers:read_until("\n"), "100\n")
  calculator:close_stdin()
  calculator:wait("60s"):assert_ok()
end)

test("a signal, and the program's answer to it", function(t)
  local process = vm:run_async("trap 'echo bye; exit 3' TERM; echo ready; while :; do sleep 0.1; done")
  process:stdout_stream():expect("ready")
  process:signal("term")
  local result = process:wait("60s")
  t:assert_eq(result.exit_code, 3)
  t:assert_contains(result.stdout, "bye")
end)

test("a program that a signal ends", function(t)
  local process = vm:run_async("sleep", {args = {"1000"}})
  process:kill("kill")
  local result = process:wait("60s")
  t:assert_eq(result.status, "signalled")
  t:assert_eq(result.signal, 9)
end)

test("a command that exceeds its limit is killed, and its output is kept", function(t)
  local result = vm:run("echo started; sleep 1000", {timeout = "5s"})
  t:assert(result.timed_out)
  t:assert_eq(result.stdout, "started\n")
end)

test("arguments, environment, input: no shell in between", function(t)
  local result = vm:run("sh", {args = {"-c", "cat; echo $GREETING"}, env = {GREETING = "hi"}, stdin = "in "})
  t:assert_eq(result:assert_ok().stdout, "in hi\n")
end)

test("several at once", function(t)
  -- Each ends when all four have begun.
  local command = "touch /tmp/begun%d; until test $(ls /tmp/begun? | wc -l) = 4; do sleep 0.1; done"
  local processes = {}
  for i = 1, 4 do processes[i] = vm:run_async(command:format(i)) end
  for _, process in ipairs(processes) do process:wait("60s"):assert_ok() end
end)
