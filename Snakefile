# From meshes to Table 2:   snakemake --cores all reports/table2.csv
# All tables and figures:  snakemake --cores all reports/all
# Another scale or dataset: snakemake --cores all --config scale=smoke dataset=meshes -- reports/table2.csv
# Names, paths and inputs are made in pipeline/dag.py; the rules stand with their rooms.
import gc
import sys
from pathlib import Path
from shlex import quote

from snakemake.utils import min_version

from core.errors import UserError
from core.identity import source_hash
from pipeline import bucket, lock, needs, outcome
from pipeline.artefacts import ARTEFACTS, EVERYTHING, asked_for
from pipeline.config import load
from pipeline.dag import Dag

min_version("9.25")

try:
    bucket.link_runs(workflow)
    config = load(config)
    gc.disable()  # hundreds of thousands of objects, which all stay: looking for garbage among them took half of the planning
    dag = Dag(config)
    gc.freeze()
    gc.enable()
    bucket.check(workflow, dag)
except UserError as error:
    sys.exit(f"error: {error}")

# The rules' python is this one, and it finds the rooms from any working directory.
shell.prefix(f"set -euo pipefail; export PATH={quote(str(Path(sys.executable).parent))}:$PATH PYTHONPATH={quote(str(workflow.basedir))}; ")


wildcard_constraints:
    **dag.wildcards(),


localrules:
    describe,
    everything,
    weights,


rule default:
    input:
        "reports/table2.csv",


include: "data/rules.smk"
include: "methods/rules.smk"
include: "evaluation/rules.smk"
include: "reports/rules.smk"


onstart:
    lock.hold(Path(".snakemake/run.lock"))


onsuccess:
    asked = asked_for(set(workflow.dag_settings.targets))
    bucket.bring_home(workflow, (path for artefact in asked for path in artefact.paths))
    outcome.succeeded(asked, dag.description)


onerror:
    outcome.failed(asked_for(set(workflow.dag_settings.targets)))
