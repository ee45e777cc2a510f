"""Lines of a results file as the live view reads them."""


def start(case_id: str, device: str) -> dict:
    return {"type": "start", "case_id": case_id, "device": device}


def case(case_id: str, status: str, reason: str = "") -> dict:
    return {"type": "case", "case_id": case_id, "status": status, "reason": reason}
