from harness.cases.models.weight_account import WeightAccount


def test_account_summary_counts_everything():
    account = WeightAccount(
        loaded=3, expected=6, missing=("a", "b"), mismatched=(("c", (2,), (3, 1)),), allowed=("a",)
    )
    assert account.summary() == (
        "3 of 6 tensors loaded; 1 missing in the file (b); 1 of another shape "
        "(c 2 in the file, 3x1 in the model); 1 allowed (a)"
    )
