"""``benchmarks.run`` in this process, without Hydra's command line, which composes everything twice."""

from __future__ import annotations

from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from benchmarks.run import CONF, main


def run(*words: str) -> None:
    """A run with the words of its command line. Raises what the command tells, mostly ``RunError``."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("config", list(words), return_hydra_config=True)
    HydraConfig.instance().set_config(config)
    with open_dict(config):
        del config["hydra"]
    main(config)
