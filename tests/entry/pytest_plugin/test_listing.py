import subprocess
import sys

from harness.cases import sizes
from harness.entry.pytest_plugin import listing
from harness.system.files import ROOT
from tests.makers.cases import case


def test_the_list_says_what_a_case_costs():
    known, unknown = case("resnet18"), case("no_such_model")
    text = listing.render([known, unknown], {known.id: 12.5})
    row, other = (next(x for x in text.splitlines() if c.id in x) for c in (known, unknown))
    assert [cell.strip() for cell in row.split("|")[3:8]] == [
        "11.7 M", "3x224x224", "10.9", f"{sizes.memory(known) / 1e6:.3g} MB", "12.5",
    ]  # fmt: skip
    assert [cell.strip() for cell in other.split("|")[3:8]] == ["?", "?", "?", "?", "not run yet"]
    assert "2 cases, 10.9 GMAC a pass and 1 of unknown size; 1 of them took 12 s before" in text


def test_listing_loads_neither_torch_nor_timm():
    script = (
        "import sys; from harness.entry.commands.main import main\n"
        "code = main(['run', '--list', '--model', 'vit_t*', '--max-params', '6M', '--shard', '1/2',"
        " '-p', 'no:cacheprovider'])\n"
        "print(code, sorted({'torch', 'timm', 'torchvision'} & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []"
    assert "vit_tiny_patch16_" in done.stdout
    assert "--max-params 6 M leaves out" in done.stdout
    assert "vit_tiny_r_s16" not in done.stdout
