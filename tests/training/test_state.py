"""Training that goes on: states, averages, what is trained, sources of batches, extra arguments."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import flowjax as fj
from flowjax import training
from flowjax.training import batches

KEY = jax.random.key(4)
X = np.linspace(-1, 1, 20, dtype=np.float32)
DATA = (X, 3 * X - 1)
MODEL = {"slope": jnp.array(0.5), "offset": jnp.array(0.0)}

pytestmark = pytest.mark.usefixtures("standard_promotion")


def squared_error(model, sample, key):
    x, y = sample
    return (model["slope"] * x + model["offset"] + 0.1 * jax.random.normal(key) - y) ** 2


ADAM = optax.adam(0.05)


def fit(steps, data=DATA, model=MODEL, loss=squared_error, key=KEY, **how):
    settings = {"optimizer": ADAM, "steps": steps, "batch_size": 6} | how
    return training.fit(model, loss, data, key, **settings)


def equal(one, other):
    jax.tree.map(
        np.testing.assert_array_equal, *(eqx.filter(s, eqx.is_array) for s in (one, other))
    )


@pytest.mark.parametrize("cut", [1, 7, 20])
@pytest.mark.parametrize("ema", [None, 0.9])
def test_to_go_on_is_not_to_have_stopped_bit_for_bit(cut, ema):
    whole, losses = fit(40, ema=ema)
    first, early = fit(cut, ema=ema)
    second, late = fit(40 - cut, ema=ema, state=first)
    keyless = lambda s: (s.model, s.ema, s.optimizer_state, s.step)  # noqa: E731
    equal(keyless(second), keyless(whole))
    np.testing.assert_array_equal(np.concatenate([early, late]), losses)
    assert int(second.step) == 40


def test_long_passes_and_short_ones_visit_the_data_alike():
    """Each pass once and in its order, also beyond what one call of the loop takes."""
    loss = lambda model, sample, key: sample + 0 * model  # noqa: E731
    for samples, steps in ((5, 260), (240, 490)):
        data = jnp.arange(float(samples))
        how = {"batch_size": 1, "optimizer": optax.sgd(0.0)}
        seen = np.asarray(fit(steps, data, jnp.array(1.0), loss, **how)[1])
        whole = seen[: steps // samples * samples].reshape(-1, samples)
        np.testing.assert_array_equal(np.sort(whole, axis=1), np.tile(data, (len(whole), 1)))
        assert not np.array_equal(whole[0], whole[1])


def test_the_steps_of_fit_are_those_of_step():
    """On batches of everything, but for their order: by the losses, which do not hang on it."""
    loss = lambda model, sample, key: (model["slope"] * sample[0] - sample[1]) ** 2  # noqa: E731
    state = training.init(MODEL, loss, KEY, optimizer=ADAM)
    values = []
    for _ in range(5):
        state, info = training.step(state, DATA)
        values.append(float(info.loss))
    fitted, losses = fit(5, loss=loss, batch_size=20)
    np.testing.assert_allclose(losses, values, rtol=1e-5)
    np.testing.assert_allclose(fitted.model["slope"], state.model["slope"], rtol=1e-5)


def test_a_step_is_pure_and_runs_under_jit_and_scan():
    batches = jax.tree.map(lambda leaf: jnp.stack([leaf, leaf[::-1], leaf]), DATA)
    state = training.init(MODEL, squared_error, KEY, optimizer=ADAM, ema=0.5)
    arrays, static = eqx.partition(state, eqx.is_array)

    @jax.jit
    def scanned(arrays):
        def body(arrays, batch):
            after, info = training.step(eqx.combine(arrays, static), batch)
            return eqx.filter(after, eqx.is_array), info.loss

        return jax.lax.scan(body, arrays, batches)

    after, losses = scanned(arrays)
    for i in range(3):
        state, info = training.step(state, jax.tree.map(lambda leaf, i=i: leaf[i], batches))
        np.testing.assert_allclose(info.loss, losses[i], rtol=1e-6)
    np.testing.assert_allclose(after.ema["slope"], state.ema["slope"], rtol=1e-6)


def test_the_average_is_its_closed_form():
    decay, path = 0.8, []
    state = training.init(MODEL, squared_error, KEY, optimizer=ADAM, ema=decay)
    path.append(float(state.model["slope"]))
    for _ in range(12):
        state, _ = training.step(state, DATA)
        path.append(float(state.model["slope"]))
    n = len(path) - 1
    weights = np.array([decay**n, *((1 - decay) * decay ** np.arange(n - 1, -1, -1))])
    averaged = training.averaged(state)["slope"]
    np.testing.assert_allclose(averaged, np.dot(weights, path), rtol=1e-5)
    assert training.averaged(fit(1)[0])["slope"] == fit(1)[0].model["slope"]


@pytest.mark.parametrize("trainable", [{"slope": True, "offset": False}, "function"])
def test_only_what_is_trainable_is_trained(trainable):
    model = {"slope": jnp.array(0.5), "offset": jnp.zeros(1)}
    if trainable == "function":
        trainable = lambda leaf: eqx.is_inexact_array(leaf) and leaf.ndim == 0  # noqa: E731
    loss = lambda m, s, key: jnp.sum((m["slope"] * s[0] + m["offset"] - s[1]) ** 2)  # noqa: E731
    state, _ = fit(10, model=model, loss=loss, trainable=trainable, ema=0.9)
    assert state.model["slope"] != 0.5
    assert state.model["offset"] == 0
    assert training.averaged(state)["offset"] == 0


def test_what_else_a_loss_gives_is_seen_by_the_callback():
    seen = []

    def loss(model, sample, key):
        return squared_error(model, sample, key), {"x": sample[0], "slope": model["slope"]}

    def note(state, info):
        seen.append((int(state.step), float(info.aux["x"]), float(info.aux["slope"])))

    how = {"loss": loss, "batch_size": 20, "callback": note, "every": 4}
    state, _ = fit(10, **how)
    assert [step for step, *_ in seen] == [4, 8, 10]
    np.testing.assert_allclose([x for _, x, _ in seen], np.mean(X), atol=1e-6)
    fit(5, state=state, **how)
    assert [step for step, *_ in seen[3:]] == [12, 15]


def test_batches_may_be_drawn_and_may_come_from_an_iterator():
    draw = lambda key, i: (  # noqa: E731
        x := jax.random.uniform(key, (6,)),
        3 * x - 1,
    )
    by_function, losses = fit(30, data=draw, batch_size=None)
    order_key = jax.random.split(KEY)[0]
    batches = [draw(jax.random.fold_in(order_key, i), i) for i in range(30)]
    by_iterator, same = fit(30, data=iter(batches), batch_size=None)
    np.testing.assert_allclose(same, losses, rtol=1e-5)
    np.testing.assert_allclose(by_iterator.model["slope"], by_function.model["slope"], rtol=1e-5)
    # It goes on where it stands.
    source = iter(batches)
    first, _ = fit(12, data=source, batch_size=None)
    second, _ = fit(18, data=source, batch_size=None, state=first)
    equal(second.model, by_iterator.model)


def test_a_loss_of_the_whole_batch_is_given_it_and_one_key():
    def loss(model, batch, key):
        x, y = batch
        assert x.shape == (6,)
        noise = 0.1 * jax.random.normal(key, x.shape)
        return jnp.mean((model["slope"] * x + model["offset"] + noise - y) ** 2)

    state, losses = fit(200, loss=loss, batch_loss=True)
    assert losses[-1] < losses[0] / 10
    np.testing.assert_allclose(state.model["slope"], 3.0, atol=0.3)


@pytest.mark.parametrize(
    "optimizer",
    [
        optax.MultiSteps(optax.sgd(0.1), 2),
        optax.MultiSteps(optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau()), 2),
        optax.chain(optax.sgd(0.1), optax.contrib.reduce_on_plateau(patience=2)),
        optax.lbfgs(),
        optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(0.1)),
    ],
    ids=["MultiSteps", "MultiSteps of extra arguments", "reduce_on_plateau", "lbfgs", "chain"],
)
@pytest.mark.thin(2)
def test_any_optimizer_of_optax_will_do(optimizer):
    loss = lambda m, s, key: (m["slope"] * s[0] + m["offset"] - s[1]) ** 2  # noqa: E731
    state, losses = fit(60, loss=loss, batch_size=20, optimizer=optimizer)
    assert losses[-1] < losses[0] / 5
    again, _ = fit(30, loss=loss, batch_size=20, optimizer=optimizer)
    again, _ = fit(30, loss=loss, batch_size=20, optimizer=optimizer, state=again)
    equal(again.model, state.model)


@pytest.mark.parametrize(
    ("how", "error", "words"),
    [
        ({"model": {"slope": jnp.zeros(2), "offset": jnp.zeros(())}}, ValueError, "this model"),
        ({"optimizer": optax.sgd(0.1)}, ValueError, "this optimizer"),
        ({"ema": 0.9}, ValueError, "this ema"),
        ({"key": jax.random.key(5)}, ValueError, "one of this key"),
        ({"state": MODEL}, TypeError, "state must be a TrainState"),
        ({"batch_size": None}, ValueError, "batch_size must be given"),
        ({"data": lambda key, i: DATA}, ValueError, "batch_size is for arrays"),
        ({"data": iter([]), "batch_size": None}, ValueError, "ended before step"),
        ({"data": (X, np.full_like(X, np.nan))}, ValueError, r"data\[1\] must be finite, got 20"),
        ({"ema": 1.0, "state": None}, ValueError, "ema must be a decay from 0 to below 1"),
        ({"trainable": lambda leaf: False, "state": None}, TypeError, "model must hold floating"),
        ({"trainable": {"a": True}, "state": None}, TypeError, "trainable must be a function of a"),
        ({"every": 0}, ValueError, "every"),
        ({"ema": lambda: 0.9, "state": None}, TypeError, "ema must be a function step -> decay"),
        ({"ema": lambda step: step, "state": None}, TypeError, "ema must return a real floating"),
    ],
)
def test_what_does_not_go_together_is_refused(unchecked, how, error, words):
    state, _ = fit(2)
    with pytest.raises(error, match=words):
        fit(2, **({"state": state} | how))


@pytest.mark.parametrize("ema", [None, 0.9])
@pytest.mark.parametrize("kind", ["threefry2x32", "rbg"])
def test_a_state_goes_through_a_file_bit_for_bit(tmp_path, ema, kind):
    key = jax.random.key(4, impl=kind)
    whole, _ = fit(20, ema=ema, key=key)
    fit(10, ema=ema, key=key, callback=lambda state, info: training.save(tmp_path / "s", state))
    begun = training.init(MODEL, squared_error, key, optimizer=ADAM, ema=ema)
    state, _ = fit(10, ema=ema, key=key, state=training.restore(tmp_path / "s", begun))
    equal(state.model, whole.model)
    equal(training.averaged(state), training.averaged(whole))
    assert [file.name for file in tmp_path.iterdir()] == ["s"]


def test_a_file_of_another_state_is_refused(tmp_path, monkeypatch):
    make = lambda **how: training.init(  # noqa: E731
        how.pop("model", MODEL), squared_error, KEY, **({"optimizer": ADAM} | how)
    )
    file = tmp_path / "state"
    training.save(file, make())
    for how in ({"optimizer": optax.sgd(0.1)}, {"ema": 0.9}, {"model": {"slope": jnp.zeros(2)}}):
        with pytest.raises(
            ValueError, match=r"path must be a file of a state like `like`, in which"
        ):
            training.restore(file, make(**how))
    whole = file.read_bytes()
    at = whole.index(np.asarray(MODEL["slope"]).tobytes())
    flipped = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
    for part in (whole[:-1], whole[:100], b"", b"x" + whole[1:], flipped):
        file.write_bytes(part)
        with pytest.raises(ValueError, match="path must be a file that save has written"):
            training.restore(file, make())
    with pytest.raises(FileNotFoundError):
        training.restore(tmp_path / "other", make())
    # What was there stays if a save does not end well.
    file.write_bytes(whole)

    def full_disk(file, **arrays):
        file.write(b"a part")
        raise OSError("no space left")

    monkeypatch.setattr(np, "savez", full_disk)
    with pytest.raises(OSError, match="no space left"):
        training.save(file, make())
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("state", whole)]


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16, jnp.float8_e4m3fn])
def test_a_file_keeps_every_dtype_and_changes_none(tmp_path, dtype):
    make = lambda dtype: training.init(  # noqa: E731
        jnp.array([0.5, -1.5], dtype), squared_error, KEY, optimizer=optax.identity()
    )
    training.save(tmp_path / "s", make(dtype))
    again = training.restore(tmp_path / "s", make(dtype)).model
    assert again.dtype == dtype
    np.testing.assert_array_equal(again.astype(jnp.float32), [0.5, -1.5])
    with pytest.raises(ValueError, match=r"in which \.model is \['float32', \[2\]\]"):
        training.restore(tmp_path / "s", make(jnp.float32))


def test_a_file_of_64_bits_is_not_rounded(tmp_path, x64):
    make = lambda: training.init(jnp.array(1 / 3), squared_error, KEY, optimizer=optax.identity())  # noqa: E731
    training.save(tmp_path / "s", make())
    in_32_bits = jax.enable_x64 if hasattr(jax, "enable_x64") else jax.experimental.enable_x64
    with in_32_bits(False):
        like = make()
        with pytest.raises(ValueError, match=r"\['float32', \[\]\], but in .* \['float64'"):
            training.restore(tmp_path / "s", like)


def test_an_optimizer_may_have_names_of_its_own():
    """Those of its three first arguments, and some that `fit` gives others by."""

    def update(grad, state, params=None, *, value):
        return jax.tree.map(lambda g: -0.1 * g * jnp.sign(value), grad), state

    own = optax.GradientTransformationExtraArgs(lambda params: (), update)
    got, _ = fit(10, optimizer=own)
    want, _ = fit(10, optimizer=optax.sgd(0.1))
    np.testing.assert_allclose(got.model["slope"], want.model["slope"], rtol=1e-6)


def test_the_decay_may_grow():
    """With k / (k + 1) before step k + 1 it is the mean of all models that a step has left."""
    path, note = [], lambda state, info: path.append(float(state.model["slope"]))
    grows = lambda step: step / (step + 1)  # noqa: E731
    state, _ = fit(12, ema=grows, callback=note, every=1)
    np.testing.assert_allclose(training.averaged(state)["slope"], np.mean(path), rtol=1e-5)


def test_an_average_in_bfloat16_is_that_of_its_closed_form():
    model = jnp.zeros((), jnp.bfloat16)
    loss = lambda model, x, key: (model - 1).astype(jnp.float32) ** 2  # noqa: E731
    state, _ = fit(2000, np.zeros(8, np.float32), model, loss, ema=0.999, optimizer=optax.sgd(0.5))
    assert state.model == 1
    # 1 - 0.999^2000, if the model is 1 from the first step on.
    assert abs(float(state.ema) - (1 - 0.999**2000)) < 1e-3
    assert training.averaged(state).dtype == jnp.bfloat16


def test_labels_that_a_model_has_no_row_for_are_refused_before_training():
    network = fj.models.MLP((2,), width=8, depth=1, num_classes=3, key=KEY)
    loss = lambda m, sample, key: fj.losses.flow_matching(m, sample[0], key, sample[1])  # noqa: E731
    x = np.zeros((6, 2), np.float32)
    how = {"model": network, "loss": loss, "batch_size": 2}
    for label, sample in ((4, 2), (-1, 5)):
        labels = np.array([0, 1, 2, 3, 3, 0])
        labels[sample] = label
        with pytest.raises(ValueError, match=rf"data\[1\] must be .* sample {sample}, .*{label}"):
            fit(3, (x, labels), **how)
    fit(3, (x, np.array([0, 1, 2, 3, 3, 0])), **how)
    two = lambda m, sample, key: loss(m, (sample[0], sum(sample[1])), key)  # noqa: E731
    bad = np.array([0, 1, 9, 0, 0, 0])
    with pytest.raises(ValueError, match=r"data\[1\]\[0\] must be .* sample 2"):
        fit(3, (x, (bad, bad)), network, two, batch_size=2)
    # Whose loss is not finite anyway is not to blame.
    nan = lambda m, sample, key: loss(m, sample, key) * jnp.nan  # noqa: E731
    with pytest.warns(RuntimeWarning, match="not finite from step 0"):
        fit(3, (x, np.array([0, 1, 2, 3, 3, 0])), model=network, loss=nan, batch_size=2)


def test_short_passes_are_drawn_once_for_many_calls(monkeypatch):
    drawn, bits = [], batches._bits
    monkeypatch.setattr(batches, "_bits", lambda *a: drawn.append(int(a[1])) or bits(*a))
    seen = []
    fit(40, callback=lambda state, info: seen.append(float(info.loss)), every=1)
    assert drawn == [0]
    np.testing.assert_array_equal(seen, fit(40)[1])


def test_what_is_trained_may_be_known_by_what_it_is():
    trainable = lambda leaf: leaf is MODEL["offset"]  # noqa: E731
    state, _ = fit(5, trainable=trainable)
    assert state.model["slope"] == MODEL["slope"]
    assert state.model["offset"] != MODEL["offset"]


def test_a_loss_that_holds_arrays_is_refused():
    class Loss(eqx.Module):
        scale: jax.Array

        def __call__(self, model, sample, key):
            return self.scale * squared_error(model, sample, key)

    with pytest.raises(TypeError, match=r"loss must hold no arrays, got .*Loss\("):
        fit(2, loss=Loss(jnp.array(2.0)))
