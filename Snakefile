# From meshes to Table 2:   snakemake --cores all reports/table2.csv
# Another scale or dataset: snakemake --cores all --config scale=smoke dataset=meshes -- reports/table2.csv
# Names, paths and inputs are made in pipeline/dag.py; the rules stand with their rooms.
import sys
from pathlib import Path
from shlex import quote

from snakemake.utils import min_version

from core.errors import UserError
from core.identity import source_hash
from pipeline import lock, outcome
from pipeline.config import load
from pipeline.dag import Dag
from pipeline.figures import FILES, Figures

min_version("9.25")

try:
    config = load(config)
    dag = Dag(config)
    figures = Figures(dag)
except UserError as error:
    sys.exit(f"error: {error}")

# The rules' python is this one, and it finds the rooms from any working directory.
shell.prefix(f"set -euo pipefail; export PATH={quote(str(Path(sys.executable).parent))}:$PATH PYTHONPATH={quote(str(workflow.basedir))}; ")


wildcard_constraints:
    **dag.wildcards(),


localrules:
    describe,
    table2,


rule all:
    input:
        "reports/table2.csv",


include: "data/rules.smk"
include: "methods/rules.smk"
include: "evaluation/rules.smk"
include: "reports/rules.smk"


onstart:
    lock.hold(Path(".snakemake/run.lock"))


onsuccess:
    outcome.succeeded(Path("reports/table2.csv"), dag.description)


onerror:
    outcome.failed(Path("reports/table2.csv"))
