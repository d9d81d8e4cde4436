from __future__ import annotations

from tests.models.tiny import step, tiny_model

from lepton_ai.backends.cpu.backend import CpuBackend
from lepton_ai.backends.cpu.device import CpuDevice
from lepton_ai.backends.cpu.work import StepShape
from lepton_ai.cli.profile.recorder import StepRecorder
from lepton_ai.config import Limits, Policy


def test_a_step_lasts_from_the_end_of_the_one_before() -> None:
    model, store = tiny_model()
    backend = CpuBackend(CpuDevice(num_threads=1))
    limits = Limits(max_tokens=16, max_rows=16, max_seqs=4, max_model_len=128)
    executable = backend.compile(model.build(head="logits"), store, limits, policy=Policy.EXACT)
    cache = backend.allocate_kv(model.kv_specs(), [4])
    # Made, begun; then each step is entered and left, and the engine has its turn again.
    times = iter([0.0, 10.0, 11.0, 15.0, 15.5, 17.5, 20.5, 21.0])
    recorder = StepRecorder(executable, lambda: next(times))
    recorder.begin()
    recorder.run(step([(0, [1, 2, 3], [0])], logit_rows=[2]), cache)
    recorder.run(step([(3, [4], [0])]), cache)
    first, second = recorder.take()
    assert (first.wall_s, first.call_s) == (5.0, 4.0)
    assert (second.wall_s, second.call_s) == (5.0, 3.0)
    assert (first.shape, second.shape) == (StepShape((3,), (3,), 1), StepShape((1,), (4,), 1))
    for recorded in (first, second):
        assert len(recorded.op_seconds) == len(executable.ops)
        assert sum(working for _, working in recorded.op_seconds) > 0
