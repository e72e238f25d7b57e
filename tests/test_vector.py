"""Many conversations in step are the same conversations as one at a time, with Gymnasium's vector semantics."""

import time

import gymnasium
import numpy as np
import pytest
from echo_env import EchoEnv, EchoUser
from gymnasium.utils.env_checker import data_equivalence
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from envs.vector import ConversationVectorEnv

N = 5
LINES = ("Hello.", "Goodbye.", "Is it apple, bread, cider or dates?", "What is it?")
MODES = list(AutoresetMode)


def lines(seed: int):
    rng = np.random.default_rng(seed)
    while True:
        yield tuple(rng.choice(LINES, size=N).tolist())


def mask_of(*indices: int) -> np.ndarray:
    mask = np.zeros(N, dtype=np.bool_)
    mask[list(indices)] = True
    return mask


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("seed", [3, [9, 9, 1, 2, 2**33]])
def test_it_gives_what_gymnasiums_sync_vector_env_gives(mode, seed):
    theirs = SyncVectorEnv([EchoEnv] * N, autoreset_mode=mode)
    ours = ConversationVectorEnv(EchoEnv, N, mode)
    assert data_equivalence(theirs.reset(seed=seed), ours.reset(seed=seed), exact=True)
    for _, actions in zip(range(30), lines(0), strict=False):
        assert data_equivalence(theirs.step(actions), ours.step(actions), exact=True)
    assert data_equivalence(theirs.reset(), ours.reset(), exact=True)
    assert ours.np_random_seed == theirs.np_random_seed


def test_disabled_it_gives_what_gymnasiums_gives_with_the_same_masks():
    theirs = SyncVectorEnv([EchoEnv] * N, autoreset_mode=AutoresetMode.DISABLED)
    ours = ConversationVectorEnv(EchoEnv, N, AutoresetMode.DISABLED)
    assert data_equivalence(theirs.reset(seed=3), ours.reset(seed=3), exact=True)
    for _, actions in zip(range(30), lines(0), strict=False):
        mine = ours.step(actions)
        assert data_equivalence(theirs.step(actions), mine, exact=True)
        over = np.logical_or(mine[2], mine[3])
        if over.any():
            reset = [env.reset(options={"reset_mask": over.copy()}) for env in (theirs, ours)]
            assert data_equivalence(*reset, exact=True)


def test_the_same_seeds_give_the_conversations_of_single_environments():
    vector, single = ConversationVectorEnv(EchoEnv, N), EchoEnv()
    observations, _ = vector.reset(seed=40)
    assert observations == tuple(single.reset(seed=40 + i)[0] for i in range(N))
    observations, *_ = vector.step((*LINES, "No."))
    for i, line in enumerate((*LINES, "No.")):
        single.reset(seed=40 + i)
        assert single.step(line)[0] == observations[i]


def test_next_step_ignores_the_action_and_begins_anew():
    env = ConversationVectorEnv(EchoEnv, N, AutoresetMode.NEXT_STEP)
    env.reset(seed=3)
    ended, _, terminations, _, infos = env.step(("Goodbye.", *["Hello."] * (N - 1)))
    assert terminations.tolist() == [True] + [False] * (N - 1)
    assert infos["stop_reason"][0] == "user_left"
    assert infos["_stop_reason"].tolist() == terminations.tolist()
    begun, rewards, terminations, _, infos = env.step([None, *["Hello."] * (N - 1)])
    assert ended[0].last("agent") == "Goodbye."
    assert len(begun[0].turns) == 1
    assert (rewards[0], terminations[0], infos["exchanges"][0]) == (0.0, False, 0)
    assert not infos["_judged"][0]


def test_same_step_keeps_the_last_observation_and_info():
    env = ConversationVectorEnv(EchoEnv, N, "SameStep")
    env.reset(seed=3)
    observations, _, _, _, infos = env.step(("Goodbye.", *["Hello."] * (N - 1)))
    assert len(observations[0].turns) == 1
    assert infos["final_obs"][0].last("agent") == "Goodbye."
    assert infos["final_obs"][1] is None
    assert infos["final_info"]["stop_reason"][0] == "user_left"
    assert infos["_final_info"].tolist() == [True] + [False] * (N - 1)


def test_disabled_needs_a_reset_of_what_is_over_and_leaves_the_rest():
    env = ConversationVectorEnv(EchoEnv, N, AutoresetMode.DISABLED)
    env.reset(seed=3)
    before, *_ = env.step(("Goodbye.", *["Hello."] * (N - 1)))
    with pytest.raises(gymnasium.error.ResetNeeded, match=r"Conversations \[0\] are over"):
        env.step(["Hello."] * N)
    options = {"reset_mask": mask_of(0)}
    after, infos = env.reset(seed=[8, *[None] * (N - 1)], options=options)
    assert after[0] == EchoEnv().begin(8).heard_by("agent")
    assert after[1:] == before[1:]
    assert infos["_exchanges"].tolist() == mask_of(0).tolist()
    assert "reset_mask" in options
    env.step(["Hello."] * N)


def test_conversations_that_are_over_are_not_sent_to_the_user():
    sizes = []

    class Counting(EchoUser):
        def reply(self, episodes, rngs):
            sizes.append(len(episodes))
            return super().reply(episodes, rngs)

    env = ConversationVectorEnv(lambda: EchoEnv(Counting()), N)
    env.reset(seed=3)
    env.step(["Goodbye.", "Goodbye.", *["Hello."] * (N - 2)])
    env.step(["Hello."] * N)
    assert sizes == [N, N - 2]


def test_mixed_successes_stay_apart_in_the_infos():
    env = ConversationVectorEnv(EchoEnv, N, "Disabled")
    env.reset(seed=3)
    word = env.episodes[0].scenario.facts
    others = [i for i, episode in enumerate(env.episodes) if episode.scenario.facts != word]
    *_, infos = env.step([word, *["Hello."] * (N - 1)])
    assert infos["success"][0]
    assert not infos["_success"][others].any()


def test_observations_and_actions_are_in_their_spaces():
    env = ConversationVectorEnv(EchoEnv, N)
    observations, _ = env.reset(seed=3)
    assert observations in env.observation_space
    env.action_space.seed(0)
    actions = env.action_space.sample()
    assert env.step(actions)[0] in env.observation_space
    assert len(set(actions)) > 1
    assert env.single_observation_space == EchoEnv().observation_space


def test_arrays_of_earlier_steps_are_not_written_again():
    env = ConversationVectorEnv(EchoEnv, N)
    env.reset(seed=3)
    first = env.step(["Goodbye."] * N)
    kept = [np.copy(array) for array in first[1:4]]
    env.step(["Hello."] * N)
    assert all((a == b).all() for a, b in zip(kept, first[1:4], strict=True))


def test_wrapped_environments_are_unwrapped_and_others_refused():
    env = ConversationVectorEnv(gymnasium.wrappers.OrderEnforcing(EchoEnv()), N)
    assert isinstance(env.env, EchoEnv)
    with pytest.raises(TypeError, match="SyncVectorEnv"):
        ConversationVectorEnv(lambda: gymnasium.make("CartPole-v1"), N)


@pytest.mark.parametrize("mode", MODES)
def test_the_mode_is_in_the_metadata_and_not_in_the_environments(mode):
    env = ConversationVectorEnv(EchoEnv, N, mode)
    assert env.metadata["autoreset_mode"] is mode
    assert "autoreset_mode" not in EchoEnv.metadata


def test_it_renders_each_conversation():
    env = ConversationVectorEnv(lambda: EchoEnv(render_mode="ansi"), N)
    assert env.render() == ("",) * N
    env.reset(seed=3)
    assert env.render() == (" user: Hello.",) * N
    assert ConversationVectorEnv(EchoEnv, N).render() is None


def test_misuse_is_answered_with_the_remedy():
    env = ConversationVectorEnv(EchoEnv, N)
    with pytest.raises(gymnasium.error.ResetNeeded, match="call reset"):
        env.step(["Hello."] * N)
    with pytest.raises(gymnasium.error.ResetNeeded, match="every conversation"):
        env.reset(options={"reset_mask": mask_of(0)})
    env.reset()
    with pytest.raises(ValueError, match="2 actions for 5 conversations"):
        env.step(["a", "b"])
    with pytest.raises(ValueError, match="2 seeds for 5 conversations"):
        env.reset(seed=[1, 2])
    with pytest.raises(ValueError, match="True in it"):
        env.reset(options={"reset_mask": mask_of()})
    with pytest.raises(ValueError, match="shape"):
        env.reset(options={"reset_mask": np.ones(2, dtype=np.bool_)})
    with pytest.raises(TypeError, match="NumPy array of bool"):
        env.reset(options={"reset_mask": [True] * N})
    with pytest.raises(ValueError, match="at least 1 conversation"):
        ConversationVectorEnv(EchoEnv, 0)


def test_gymnasium_makes_it_from_a_vector_entry_point():
    gymnasium.register(
        "test/Echo-v0", EchoEnv, vector_entry_point=lambda num_envs: ConversationVectorEnv(EchoEnv, num_envs)
    )
    try:
        env = gymnasium.make_vec("test/Echo-v0", num_envs=3)
        assert isinstance(env, ConversationVectorEnv)
        assert (env.num_envs, env.spec.id) == (3, "test/Echo-v0")
        single = gymnasium.make_vec("test/Echo-v0", num_envs=3, vectorization_mode="sync")
        assert data_equivalence(env.reset(seed=1), single.reset(seed=1), exact=True)
        env.close()
    finally:
        del gymnasium.registry["test/Echo-v0"]


def test_the_sales_environment_is_made_by_its_id_alone_and_as_a_vector():
    import envs  # noqa: F401  # registers the ids

    single = gymnasium.make("parley/Sales-v0", user="program")
    vector = gymnasium.make_vec("parley/Sales-v0", num_envs=4, vectorization_mode="vector_entry_point", user="program")
    assert isinstance(vector, ConversationVectorEnv)
    observations, _ = vector.reset(seed=5)
    for i in range(4):
        assert single.reset(seed=5 + i)[0] == observations[i]
    observations, rewards, *_ = vector.step(["Hello! What do you need the bicycle for?"] * 4)
    single.reset(seed=8)
    observation, reward, *_ = single.step("Hello! What do you need the bicycle for?")
    assert (observation, reward) == (observations[3], rewards[3])


def test_an_exchange_of_256_conversations_costs_in_proportion():
    env = EchoEnv()

    def seconds(n: int) -> float:
        begun, times = [env.begin(seed) for seed in range(n)], []
        for _ in range(5):
            start = time.process_time()
            env.advance(begun, ["Hello."] * n)
            times.append(time.process_time() - start)
        return min(times)

    assert seconds(256) < 3 * 256 / 32 * seconds(32)  # twice as many cost twice as much, not four times
    start = time.process_time()
    for seed in range(256):
        np.random.default_rng((seed, 1, 2))  # which every exchange needs one of
    assert seconds(256) < 20 * (time.process_time() - start)  # 2 to 3 when it is quiet
