"""A SLURM of one machine for tests: commands that run what is submitted at once, here, and write down how it was asked.

`sbatch` keeps its arguments in `{folder}/{id}.json` and runs the wrapped command (or, in a folder with a file `fail`,
lets the job fail without running it); `sacct` reports the states; `srun` runs its command.
"""

import json
import shlex
import sys
from pathlib import Path

SBATCH = """
import json, os, subprocess, sys
folder, arguments = {folder!r}, sys.argv[1:]
number = 1
while True:  # two may submit at one time
    try:
        record = open(f"{{folder}}/{{number}}.json", "x")
        break
    except FileExistsError:
        number += 1
number = str(number)
wrapped = next(a for a in arguments if a.startswith("--wrap="))[len("--wrap="):]
workdir = arguments[arguments.index("-D") + 1]
log = arguments[arguments.index("--output") + 1].replace("%j", number)
asked = [a for a in arguments if not a.startswith("--wrap=")]
with record:
    json.dump({{"asked": asked, "command": wrapped}}, record)
state = f"{{folder}}/{{number}}.state"
open(state, "w").write("RUNNING")
if os.path.exists(f"{{folder}}/fail"):
    open(state, "w").write("FAILED")
else:
    script = f"({{wrapped}}) > {{log}} 2>&1 && printf COMPLETED > {{state}} || printf FAILED > {{state}}"
    subprocess.Popen(["bash", "-c", script], cwd=workdir, env=os.environ | {{"SLURM_JOB_ID": number}},
                     stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
print(number)
"""
SACCT = """
import glob, os, sys
if "-nu" in sys.argv:
    print("none")  # no account is known of this user
elif "--format=JobIdRaw,State" in sys.argv:
    for path in glob.glob({folder!r} + "/*.state"):
        print(os.path.basename(path)[:-len(".state")] + "|" + open(path).read())
"""
SRUN = """
import os, sys
start = next(i for i, a in enumerate(sys.argv[1:], 1) if not a.startswith("-"))
os.execvp(sys.argv[start], sys.argv[start:])
"""
SINFO = "print('PARTITION'); print('main*')"
SCONTROL = "print('MaxArraySize = 1001'); print('MinJobAge = 300 sec')"
SILENT = "pass"
COMMANDS = {"sbatch": SBATCH, "sacct": SACCT, "srun": SRUN, "sinfo": SINFO, "scontrol": SCONTROL}
COMMANDS |= {"squeue": SILENT, "scancel": SILENT, "sacctmgr": SILENT, "sshare": SILENT}


def install(bin_folder: Path, folder: Path) -> None:
    """Write the commands into `bin_folder`; they keep their records in `folder`."""
    for path in (bin_folder, folder):
        path.mkdir(parents=True)
    for name, text in COMMANDS.items():
        code = text.format(folder=str(folder)) if "{folder" in text else text
        path = bin_folder / name
        path.write_text(f"#!{sys.executable} -S\n{code.strip()}\n")
        path.chmod(0o755)


def submitted(folder: Path) -> list[dict]:
    """What was asked of `sbatch`, in order, as option -> value ('' for a flag); `rule` from the job's comment."""
    found = []
    done = [path for path in folder.glob("*.json") if path.with_suffix(".state").exists()]  # written after it
    for path in sorted(done, key=lambda path: int(path.stem)):
        words, options = json.loads(path.read_text())["asked"], {}
        for word, following in zip(words, [*words[1:], "-"], strict=True):
            name, equals, value = word.partition("=")
            if name.startswith("-"):
                options[name] = value if equals else "" if following.startswith("-") else following
        options["rule"] = shlex.split(options["--comment"])[0].removeprefix("rule_").split("_wildcards_")[0]
        found.append(options)
    return found
