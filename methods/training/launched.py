"""Lightning's view of processes that were started together: what `training.processes` says, and where they meet.

Lightning's own detection would leave out a job whose name is `interactive` or `bash`, each of whose tasks would then
start further processes, and refuse one that was started without --ntasks-per-node.
"""

from __future__ import annotations

import os

from lightning_fabric.plugins.environments import ClusterEnvironment, SLURMEnvironment

from methods.training import processes


class Launched(ClusterEnvironment):
    """Processes of torchrun or srun, or one alone. They meet at MASTER_ADDR and MASTER_PORT, which torchrun sets.

    Without those: on the first node of SLURM's step, at a port that follows from the numbers of job and step.
    """

    creates_processes_externally = True

    @property
    def main_address(self) -> str:
        nodes = os.environ.get("SLURM_STEP_NODELIST", "127.0.0.1")
        return os.environ.get("MASTER_ADDR") or SLURMEnvironment.resolve_root_node_address(nodes)

    @property
    def main_port(self) -> int:
        number = sum(int(os.environ.get(name, 0)) for name in ("SLURM_JOB_ID", "SLURM_STEP_ID"))
        return int(os.environ.get("MASTER_PORT") or 15000 + number % 10000)

    @staticmethod
    def detect() -> bool:
        return True

    def world_size(self) -> int:
        return processes.count()

    def set_world_size(self, size: int) -> None:
        """It is given."""

    def global_rank(self) -> int:
        return processes.rank()

    def set_global_rank(self, rank: int) -> None:
        """It is given."""

    def local_rank(self) -> int:
        return processes.local_rank()

    def node_rank(self) -> int:
        return processes.rank() // processes.per_node()
