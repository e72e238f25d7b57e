"""The world: conversations and the people in them.

``import envs`` registers the environments with Gymnasium and needs NumPy and Gymnasium only. The check of the contract
is a command of its own: ``python -m envs.checks parley/Sales-v0``.
"""

import gymnasium

from envs.conversation import Conversation as Conversation
from envs.conversation import Message as Message
from envs.conversation import Speaker as Speaker
from envs.conversation import Turn as Turn
from envs.env import Advance as Advance
from envs.env import Assessment as Assessment
from envs.env import ConversationEnv as ConversationEnv
from envs.env import Episode as Episode
from envs.env import Scenario as Scenario
from envs.env import StopReason as StopReason
from envs.spaces import ConversationSpace as ConversationSpace
from envs.spaces import UtteranceSpace as UtteranceSpace
from envs.trajectory import Step as Step
from envs.trajectory import Trajectory as Trajectory
from envs.trajectory import Utterance as Utterance
from envs.users import Reply as Reply
from envs.users import UserSimulator as UserSimulator
from envs.vector import ConversationVectorEnv as ConversationVectorEnv

_IDS = {
    "Sales": "sales",
    "Education": "education",
    "CarDealer": "car_dealer",
    "SuggestedResponse": "suggested_response",
    "TwentyQuestions": "twenty_questions",
}
for _name, _folder in _IDS.items():
    # Gymnasium's passive checker stays on, as for its own environments: it looks at the first reset and step only.
    gymnasium.register(
        id=f"parley/{_name}-v0",
        entry_point=f"envs.{_folder}.env:make_{_folder}",
        vector_entry_point=f"envs.{_folder}.env:make_{_folder}_vec",
    )
