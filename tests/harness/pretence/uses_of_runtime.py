"""Uses of ``torch.cuda``'s functions: GPUs, streams, memory, random numbers, flags."""

from __future__ import annotations

from tests.harness.pretence.use import Use

DEVICES = [
    Use("torch.cuda.is_available()", "torch.cuda.is_available() is True"),
    Use("torch.cuda.is_initialized()", "torch.cuda.is_initialized() is True"),
    Use("torch.cuda.init()", "torch.cuda.init() is None"),
    Use("torch.cuda.device_count()", "torch.cuda.device_count() == 1"),
    Use("torch.cuda.current_device()", "torch.cuda.current_device() == 0"),
    Use("torch.cuda.set_device(0)", "torch.cuda.set_device(0) is None and torch.cuda.set_device('cuda:0') is None"),
    Use("torch.cuda.get_device_name()", "torch.cuda.get_device_name() == torch.cuda.get_device_name('cuda:0')"),
    Use("torch.cuda.get_device_name(0)", "'Pretended' in torch.cuda.get_device_name(0)"),
    Use("torch.cuda.get_device_capability()", "torch.cuda.get_device_capability() >= (8, 0)"),
    Use("torch.cuda.get_device_properties(0)", "torch.cuda.get_device_properties(0).total_memory > 2**30"),
    Use("properties.multi_processor_count", "torch.cuda.get_device_properties('cuda').multi_processor_count > 1"),
    Use("with torch.cuda.device(0)", "n == 0", "with torch.cuda.device(0):\n    n = torch.cuda.current_device()"),
    Use("with torch.cuda.device_of(x)", "n == 0",
        "with torch.cuda.device_of(torch.ones(1).cuda()):\n    n = torch.cuda.current_device()"),
    Use("torch.cuda.is_bf16_supported()", "torch.cuda.is_bf16_supported() is True"),
    Use("torch.cuda.get_arch_list()", "torch.cuda.get_arch_list() == ['sm_80']"),
    Use("torch.cuda.can_device_access_peer(0, 0)", "torch.cuda.can_device_access_peer(0, 0) is False"),
    Use("torch.version.cuda", "int(torch.version.cuda.split('.')[0]) >= 12"),
    Use("torch.backends.cuda.is_built()", "torch.backends.cuda.is_built() is True"),
    Use("torch.backends.cudnn.version()", "torch.backends.cudnn.version() > 90000"),
    Use("torch.backends.cudnn.is_available()", "torch.backends.cudnn.is_available() is True"),
    Use("torch.accelerator.is_available()", "torch.accelerator.is_available()", needs="torch.accelerator"),
    Use("torch.accelerator.current_accelerator()", "torch.accelerator.current_accelerator().type == 'cuda'",
        needs="torch.accelerator"),
    Use("torch.get_device_module('cuda')", "torch.get_device_module('cuda').device_count() == 1"),
    Use("torch.cuda.utilization()", "torch.cuda.utilization() == 0"),
    Use("torch.cuda.cudart().cudaProfilerStart()", "torch.cuda.cudart().cudaProfilerStart() == 0"),
]  # fmt: skip
STREAMS = [
    Use("torch.cuda.synchronize()", "torch.cuda.synchronize() is None and torch.cuda.synchronize('cuda') is None"),
    Use("torch.cuda.Stream()", "torch.cuda.Stream().query() and torch.cuda.Stream().device.type == 'cuda'"),
    Use("isinstance(s, torch.cuda.Stream)", "isinstance(torch.cuda.current_stream(), torch.cuda.Stream)"),
    Use("with torch.cuda.stream(s)", "inside is s and torch.cuda.current_stream() is not s",
        "s = torch.cuda.Stream()\nwith torch.cuda.stream(s):\n    inside = torch.cuda.current_stream()"),
    Use("s.wait_stream(...)", "s.wait_stream(torch.cuda.current_stream()) is None", "s = torch.cuda.Stream()"),
    Use("s.synchronize()", "s.synchronize() is None", "s = torch.cuda.Stream(device='cuda', priority=-1)"),
    Use("torch.cuda.default_stream()", "torch.cuda.default_stream().query()"),
    Use("torch.cuda.Event(enable_timing=True)", "0 <= a.elapsed_time(b) < 60_000", """
a, b = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
a.record(); b.record(); torch.cuda.synchronize()
"""),
    Use("event.query(), .wait(), .synchronize()", "e.query() and e.wait() is None and e.synchronize() is None",
        "e = torch.cuda.Event(); e.record(torch.cuda.current_stream())"),
    Use("elapsed_time without enable_timing", "'enable_timing' in message", """
a = torch.cuda.Event(); a.record()
try:
    a.elapsed_time(a)
except ValueError as error:
    message = str(error)
"""),
    Use("s.record_event()", "torch.cuda.current_stream().record_event().query()"),
    Use("x.record_stream(s)", "torch.ones(1).cuda().record_stream(torch.cuda.current_stream()) is None"),
    Use("torch.cuda.is_current_stream_capturing()", "torch.cuda.is_current_stream_capturing() is False", anywhere=True),
    Use("torch.cuda.nvtx.range_push('a')", "torch.cuda.nvtx.range_push('a') == 0 and torch.cuda.nvtx.range_pop() == 0"),
    Use("with torch.cuda.nvtx.range('a')", "done", "with torch.cuda.nvtx.range('a'):\n    done = True"),
    Use("torch.profiler with ProfilerActivity.CUDA", "bool(p.key_averages())", """
from torch.profiler import ProfilerActivity, profile
with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as p:
    torch.ones(2).cuda().sum()
""", anywhere=True),
]  # fmt: skip
MEMORY = [
    Use("torch.cuda.empty_cache()", "torch.cuda.empty_cache() is None", anywhere=True),
    Use("torch.cuda.ipc_collect()", "torch.cuda.ipc_collect() is None"),
    Use("torch.cuda.memory_allocated()", "after - before == 4096", """
before = torch.cuda.memory_allocated()
x = torch.ones(1024, device='cuda')
after = torch.cuda.memory_allocated()
"""),
    Use("memory_allocated() after del", "before == torch.cuda.memory_allocated()", """
before = torch.cuda.memory_allocated()
x = torch.ones(1024, device='cuda')
del x
"""),
    Use("torch.cuda.max_memory_allocated()", "torch.cuda.max_memory_allocated() >= before + 4096", """
torch.cuda.reset_peak_memory_stats()
before = torch.cuda.memory_allocated()
torch.ones(1024, device='cuda')
"""),
    Use("torch.cuda.reset_peak_memory_stats()", "torch.cuda.max_memory_allocated() == torch.cuda.memory_allocated()",
        "torch.ones(999, device='cuda'); torch.cuda.reset_peak_memory_stats()"),
    Use("torch.cuda.memory_reserved()", "torch.cuda.memory_reserved(0) > 0", "x = torch.ones(9, device='cuda')"),
    Use("torch.cuda.max_memory_reserved()", "torch.cuda.max_memory_reserved('cuda:0') > 0",
        "torch.ones(9, device='cuda')"),
    Use("torch.cuda.mem_get_info()", "0 < torch.cuda.mem_get_info()[0] <= torch.cuda.mem_get_info()[1]"),
    Use("torch.cuda.memory_stats()", "torch.cuda.memory_stats()['allocated_bytes.all.peak'] > 0",
        "torch.ones(9, device='cuda')"),
    Use("torch.cuda.memory_summary()", "'bytes' in torch.cuda.memory_summary()"),
    Use("torch.cuda.set_per_process_memory_fraction(0.5)", "torch.cuda.set_per_process_memory_fraction(0.5) is None"),
    Use("torch.cuda.memory.memory_allocated", "torch.cuda.memory.memory_allocated() > 0", "x = torch.ones(9).cuda()"),
    Use("torch.cuda.memory.mem_get_info", "torch.cuda.memory.mem_get_info()[1] > 2**30"),
]  # fmt: skip
RANDOM = [
    Use("torch.cuda.manual_seed(1)", "torch.equal(a, torch.rand(2, device='cuda'))",
        "torch.cuda.manual_seed(1); a = torch.rand(2, device='cuda'); torch.cuda.manual_seed(1)"),
    Use("torch.cuda.manual_seed_all(1)", "torch.cuda.manual_seed_all(1) is None and torch.cuda.initial_seed() == 1"),
    Use("torch.manual_seed(1)", "torch.equal(a, torch.rand(2, device='cuda'))",
        "torch.manual_seed(1); a = torch.rand(2, device='cuda'); torch.manual_seed(1)"),
    Use("torch.cuda.get_rng_state(), set_rng_state()", "torch.equal(a, torch.rand(2, device='cuda'))", """
state = torch.cuda.get_rng_state()
a = torch.rand(2, device='cuda')
torch.cuda.set_rng_state(state)
"""),
    Use("torch.cuda.get_rng_state_all()", "len(torch.cuda.get_rng_state_all()) == 1"),
    Use("torch.cuda.set_rng_state_all(...)", "torch.cuda.set_rng_state_all(torch.cuda.get_rng_state_all()) is None and "
        "torch.cuda.device_count() == 1"),
    Use("torch.cuda.seed()", "torch.cuda.seed() is None and torch.cuda.initial_seed() > 0"),
    Use("torch.Generator(device='cuda')", "torch.equal(a, b) and g.device.type == 'cuda'", """
g = torch.Generator(device='cuda')
a = torch.randn(2, generator=g.manual_seed(1), device='cuda')
b = torch.randn(2, generator=g.manual_seed(1), device='cuda')
"""),
    Use("isinstance(g, torch.Generator)", "isinstance(torch.Generator('cuda'), torch.Generator)"),
    Use("isinstance(torch.default_generator, torch.Generator)", "isinstance(torch.default_generator, torch.Generator)",
        anywhere=True),
    Use("torch.Generator()", "torch.Generator().device.type == 'cpu'", anywhere=True),
    Use("torch.cuda.default_generators[0]", "isinstance(torch.cuda.default_generators[0], torch.Generator)"),
    Use("with torch.random.fork_rng(devices=[0])", "torch.equal(a, b)", """
with torch.random.fork_rng(devices=[0]):
    a = torch.rand(2, device='cuda')
b = torch.rand(2, device='cuda')
"""),
    Use("F.dropout on a GPU", "F.dropout(torch.ones(99, device='cuda'), 0.5).is_cuda"),
]  # fmt: skip
FLAGS = [
    Use(f"{name} = {value}", f"{name} == {value!r}", f"{name} = {value!r}", anywhere=True)
    for name, value in (
        ("torch.backends.cudnn.benchmark", True),
        ("torch.backends.cudnn.deterministic", True),
        ("torch.backends.cudnn.enabled", False),
        ("torch.backends.cudnn.allow_tf32", False),
        ("torch.backends.cuda.matmul.allow_tf32", True),
        ("torch.backends.cuda.matmul.allow_fp16_reduced_precision_reduction", False),
        ("torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction", False),
    )
]
FLAGS += [
    Use("torch.set_float32_matmul_precision('high')", "torch.get_float32_matmul_precision() == 'high'",
        "torch.set_float32_matmul_precision('high')", anywhere=True),
    Use("with torch.backends.cudnn.flags(enabled=False)", "not inside",
        "with torch.backends.cudnn.flags(enabled=False):\n    inside = torch.backends.cudnn.enabled", anywhere=True),
    Use("torch.backends.cuda.enable_flash_sdp(False)", "not torch.backends.cuda.flash_sdp_enabled()",
        "torch.backends.cuda.enable_flash_sdp(False)", anywhere=True),
]  # fmt: skip

BY_TOPIC = {
    "Which GPUs there are": DEVICES,
    "Streams, events, profiling": STREAMS,
    "Memory": MEMORY,
    "Random numbers": RANDOM,
    "Flags": FLAGS,
}
