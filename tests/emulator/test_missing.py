"""An operator that the emulator lacks raises what CANN raises, and is named."""

from __future__ import annotations

from typing import Any


def test_missing_legacy_operator(run_script: Any) -> None:
    script = run_script(
        """
        x = torch.ones(2).npu()
        try:
            torch.acos(x).cpu()
            answer("no error")
        except RuntimeError as error:
            answer([str(error), npu.missing_operators()])
        """
    )
    text, missing = script.answer
    assert "Acos" in text and "not emulated" in text and "ERR01100" in text
    assert missing == ["Acos"]


def test_missing_aclnn_function(run_script: Any) -> None:
    code = """
        x = torch.ones(4).npu()
        try:
            torch.signbit(x).cpu()
            answer("no error")
        except RuntimeError as error:
            answer([str(error), npu.missing_operators()])
        """
    text, missing = run_script(code, environment={"ASCEND_GLOBAL_LOG_LEVEL": "2"}).answer
    assert "ERR01004" in text and "aclnnSignbit" in text
    assert missing == ["Signbit"]


def test_default_queue_raises_when_synchronised(run_script: Any) -> None:
    script = run_script(
        """
        x = torch.ones(2).npu()
        npu.set_faults(FaultPlan((Fault("error_code", "Relu"),)))
        try:
            torch.relu(x)
            torch.npu.synchronize()
            answer("no error")
        except RuntimeError as error:
            answer(str(error))
        """,
        environment={"TASK_QUEUE_ENABLE": "1"},
    )
    assert "507015" in script.answer
