import dataclasses

from harness.judgement import shares as judged
from harness.judgement.operator_rows import OperatorRow
from harness.judgement.shares import ErrorShares, Part
from harness.records.lines import UsedPlan
from harness.report import text
from harness.report.html import fragments
from harness.report.tables import shares
from tests.makers.records import case_record

FOUND = ErrorShares(
    output="output",
    arithmetic="bfloat16",
    predicted_rmse=0.9,
    budget_rmse=1.0,
    device_rmse=1.1,
    greatest=(Part("weight stem.weight", 0.6), Part("aten::addmm in head", 0.004)),
    blocks=(Part("stem", 0.6), Part("blocks.0", 0.396), Part("head", 0.004)),
    kinds=(Part("weight", 0.6), Part("product", 0.4)),
    images=6,
)


def test_the_greatest_shares_and_a_bar_a_block_stand_in_every_report():
    case = case_record(shares=FOUND)
    said = text.render_case(case)
    assert "| weight stem.weight  | 60 %" in said and "| < 1 %" in said
    assert "costs an rmse of 0.9 (the imitation has 1, the device 1.1; 6 images)" in said
    page = fragments.render_case(case.model_copy(update={"outputs": []}))
    assert "Shares of the blocks" in page and "blocks.0" in page


def test_the_culprit_stands_against_the_rest():
    culprit = Part("aten::convolution in stem", 0.97)
    case = case_record(shares=dataclasses.replace(FOUND, culprit=culprit))
    assert shares.greatest(case).rows[0] == ("CULPRIT aten::convolution in stem", "97 %")
    (first, _) = shares.lines(case)
    assert first.endswith(
        "97 % is beyond what bfloat16 costs and is put down to aten::convolution in stem; 3 % is "
        "rounding."
    )


def test_the_plan_and_what_it_costs_are_said():
    plan = UsedPlan(file="p.json", sha256="a" * 64, modules=["stem"], seconds=[0.1, 0.15])
    case = case_record(plan=plan)
    assert shares.lines(case) == [
        "Plan p.json (aaaaaaaaaaaa): 1 module in float32 (stem); a pass took 0.15 s with it and "
        "0.1 s without."
    ]
    assert shares.of_plan(case).rows[-1] == ("time of a pass, with / without", "1.500")
    emulated = case_record(plan=plan.model_copy(update={"emulated": True}))
    assert "EMULATED" in shares.lines(emulated)[0]
    assert [row[0] for row in shares.of_plan(emulated).rows] == ["plan", "modules in float32"]


def row(operator, module):
    return OperatorRow(0, operator, module, (), "float32", "contiguous")


def test_what_is_beyond_the_budget_is_put_down_to_the_culprits():
    rows = [row("aten::convolution.default", "stem"), row("aten::mm.default", "head")]
    found = judged.culprit(rows, 2.0, 1.0)
    assert found == Part("aten::convolution.default in stem and 1 more", 0.75)
    assert judged.culprit([], 2.0, 1.0) is None
    assert judged.culprit(rows, 1.0, 1.0) is None


def test_blocks_are_what_a_model_repeats():
    assert judged.block("blocks.3.attn.qkv") == "blocks.3"
    assert judged.block("stages.1.blocks.0.conv") == "stages.1.blocks.0"
    assert judged.block("layer2.0.downsample.0") == "layer2.0"
    assert judged.block("patch_embed.proj") == "patch_embed"
    assert judged.block("") == "(model)"
