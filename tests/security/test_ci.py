"""The CI templates give a fork no runner with NPUs, pin what they run and upload little."""

import re

import yaml

from harness.system.files import ROOT

TEXT = (ROOT / "docs" / "ci" / "github.yml").read_text()
GITHUB = yaml.safe_load(TEXT)
GITLAB = yaml.safe_load((ROOT / "docs" / "ci" / "gitlab.yml").read_text())
JENKINS = (ROOT / "docs" / "ci" / "Jenkinsfile").read_text()
OWN = ["results.jsonl", "accuracy.html", "junit.xml"]
STEPS = [step for job in GITHUB["jobs"].values() for step in job["steps"]]


def test_no_fork_reaches_the_runner_with_npus():
    gate = GITHUB["jobs"]["gate"]
    assert "self-hosted" in gate["runs-on"]
    assert "head.repo.full_name == github.repository" in gate["if"] and gate["environment"]
    gate_of_jenkins = JENKINS.partition("stage('Gate')")[2]
    assert re.match(r" \{\s+when \{\s+beforeAgent true\s+expression \{ !env.CHANGE_FORK \}",
                    gate_of_jenkins)  # fmt: skip
    assert GITLAB["gate"]["rules"] == [{"if": '$CI_COMMIT_REF_PROTECTED == "true"'}]


def test_actions_are_pinned_by_commit_with_their_tag_beside():
    used = re.findall(r"uses: (\S+)@(\S+)(.*)", TEXT)
    assert len(used) == 6
    for _, commit, comment in used:
        assert re.fullmatch(r"[0-9a-f]{40}", commit)
        assert re.fullmatch(r"  # v\d+\.\d+\.\d+", comment)


def test_no_expression_is_pasted_into_a_script():
    assert [step for step in STEPS if "${{" in step.get("run", "")] == []


def test_only_the_run_s_own_files_are_uploaded():
    assert GITHUB["permissions"] == {"contents": "read"}
    uploads = [step["with"]["path"] for step in STEPS if "upload" in step.get("uses", "")]
    assert len(uploads) == 2
    for paths in uploads:
        assert [path.rpartition("/")[2] for path in paths.split()] == OWN


def test_gitlab_and_jenkins_upload_no_more():
    own = [f"reports/{name}" for name in (*OWN, "summary.md")]
    for job in ("precheck", "gate"):
        assert GITLAB[job]["artifacts"]["paths"] == own
    archived = re.findall(r"archiveArtifacts artifacts: '([^']*)'", JENKINS)
    assert [found.split(", ") for found in archived] == [own, own]
    # The history is of other runs, and stays on the machine with NPUs.
    copied = re.findall(r"cp .*", JENKINS) + GITLAB["gate"]["after_script"]
    assert copied and not any("history" in line or "cp -r" in line for line in copied)


def test_checkouts_leave_no_credentials():
    checkouts = [step for step in STEPS if "checkout" in step.get("uses", "")]
    assert checkouts and all(not step["with"]["persist-credentials"] for step in checkouts)
