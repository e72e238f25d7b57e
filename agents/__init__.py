"""Those who speak and learn: the interface of agents, what they build on, and the agents themselves.

``agents.agent.Agent`` is the interface and ``agents.rollout`` lets agents converse. A method is one file here and one
YAML in ``conf/agent``; agents' files don't import one another.
"""
