"""Files are read as they are: each sample once in a pass, and what cannot be read is named."""

import sys
from itertools import chain, islice

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import flowjax as fj
from flowjax.data import folder

Image = pytest.importorskip("PIL.Image")


def a_key():
    return jax.random.key(int(np.random.default_rng().integers(2**31)))


@pytest.fixture
def arrays(tmp_path):
    """Two files of 7 and 5 samples, each of which holds its own number."""
    values = np.arange(12, dtype=np.float64)[:, None, None] + np.zeros((1, 2, 3))
    np.save(tmp_path / "a.npy", values[:7])
    (tmp_path / "more").mkdir()
    np.save(tmp_path / "more" / "b.npy", values[7:])
    (tmp_path / "notes.txt").write_text("not read")
    return tmp_path


def test_samples_are_those_of_the_files_in_order(arrays):
    data = folder(arrays)
    assert (len(data), data.shape, data.counts) == (12, (2, 3), (7, 5))
    assert [file.name for file in data.files] == ["a.npy", "b.npy"]
    assert [file.name for file in data.skipped] == ["notes.txt"]
    places = np.array([11, 0, 6, 7, 7])
    samples = data.read(places)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, places[:, None, None] + np.zeros((1, 2, 3)))


def numbers(batches, count):
    return [np.asarray(batch[:, 0, 0]).tolist() for batch in islice(batches, count)]


def test_each_pass_visits_each_sample_once_in_a_new_order(arrays):
    found = numbers(folder(arrays).batches(a_key(), 4), 6)
    passes = [list(chain(*found[:3])), list(chain(*found[3:]))]
    assert sorted(passes[0]) == sorted(passes[1]) == list(range(12))
    assert passes[0] != passes[1]
    # A last batch that would not be full is left out.
    found = numbers(folder(arrays).batches(a_key(), 5), 4)
    assert len(set(chain(*found[:2]))) == 10
    assert len(set(chain(*found[2:]))) == 10


def test_a_batch_is_a_function_of_the_key_and_its_number(arrays):
    data, key = folder(arrays), a_key()
    found = numbers(data.batches(key, 4), 8)
    assert numbers(data.batches(key, 4, first=5), 3) == found[5:]
    assert np.asarray(data.batch(key, 4, 4)[:, 0, 0]).tolist() == found[4]
    assert numbers(data.batches(jax.random.fold_in(key, 1), 4), 8) != found


def test_training_goes_on_from_a_state_as_if_it_had_not_stopped(arrays, standard_promotion):
    import optax

    data, key = folder(arrays), a_key()

    def loss(model, x, key):
        return jnp.mean((model - x) ** 2)

    def fit(model, batches, **how):
        return fj.training.fit(model, loss, batches, key, optimizer=optax.sgd(0.1), **how)[0]

    begun = jnp.float32(0)
    whole = fit(begun, data.batches(key, 4), steps=5)
    half = fit(begun, data.batches(key, 4), steps=2)
    rest = fit(begun, data.batches(key, 4, first=int(half.step)), steps=3, state=half)
    assert rest.model == whole.model


def test_bytes_become_numbers_from_minus_one_to_one(tmp_path):
    values = np.array([[0, 255], [51, 102]], np.uint8)
    np.save(tmp_path / "a.npy", values)
    found = folder(tmp_path).read([0, 1])
    np.testing.assert_allclose(found, [[-1, 1], [-0.6, -0.2]], atol=1e-6)


@pytest.mark.parametrize(
    ("mode", "shape"), [("L", (4, 3)), ("RGB", (4, 3, 3)), ("RGBA", (4, 3, 4))]
)
def test_images_are_read_as_they_are(tmp_path, mode, shape):
    pixels = np.random.default_rng().integers(0, 256, (2, *shape)).astype(np.uint8)
    for i, one in enumerate(pixels):
        Image.fromarray(one).save(tmp_path / f"{i}.PNG")
    data = folder(tmp_path)
    assert (len(data), data.shape) == (2, shape)
    with Image.open(data.files[0]) as image:
        assert image.mode == mode
    np.testing.assert_allclose(data.read([1, 0]), pixels[::-1] / 127.5 - 1, atol=1e-6)


def test_zarr_arrays_are_read_by_rows(tmp_path):
    zarr = pytest.importorskip("zarr")
    values = np.random.default_rng().normal(size=(9, 2, 2)).astype(np.float32)
    array = zarr.open_array(
        str(tmp_path / "a.zarr"), mode="w", shape=values.shape, chunks=(4, 2, 2), dtype="f4"
    )
    array[:] = values
    data = folder(tmp_path)
    assert (len(data), data.shape, data.skipped) == (9, (2, 2), ())
    np.testing.assert_array_equal(data.read([8, 0, 3, 3]), values[[8, 0, 3, 3]])
    alone = folder(tmp_path / "a.zarr")
    assert (len(alone), alone.shape, alone.skipped) == (9, (2, 2), ())
    np.testing.assert_array_equal(alone.read([8, 0]), values[[8, 0]])


def test_a_file_may_be_one_sample(tmp_path):
    for i in range(3):
        np.save(tmp_path / f"{i}.npy", np.full((2, 2), i, np.float16))
    data = folder(tmp_path, stacked=False)
    assert (len(data), data.shape) == (3, (2, 2))
    np.testing.assert_array_equal(data.read([2, 0])[:, 0, 0], [2, 0])


def test_what_is_hidden_is_not_read(arrays):
    for name in (".ipynb_checkpoints", ".thumbnails", "more/.cache"):
        (arrays / name).mkdir()
        np.save(arrays / name / "a.npy", np.zeros((3, 2, 3)))
    np.save(arrays / ".c.npy", np.zeros((3, 2, 3)))
    data = folder(arrays)
    assert [file.name for file in data.files] == ["a.npy", "b.npy"]
    hidden = [".c.npy", ".cache", ".ipynb_checkpoints", ".thumbnails", "notes.txt"]
    assert sorted(file.name for file in data.skipped) == hidden


def test_one_file_may_be_given(arrays):
    data = folder(str(arrays / "more" / "b.npy"))
    assert (len(data), data.shape, data.skipped) == (5, (2, 3), ())
    assert data.read([4])[0, 0, 0] == 11
    with pytest.raises(NotADirectoryError, match=r"or of one npy, zarr or image file, .*notes.txt"):
        folder(arrays / "notes.txt")


def test_a_batch_does_not_look_at_each_file(arrays):
    data = folder(arrays)
    assert data._ends is data._ends
    assert len(data) == 12


def test_of_an_npy_file_only_the_rows_asked_for_are_read(tmp_path, monkeypatch):
    # 64 GB, of which the file system holds next to nothing.
    np.lib.format.open_memmap(tmp_path / "a.npy", mode="w+", dtype=np.float32, shape=(2**20, 2**14))
    data = folder(tmp_path)
    assert len(data) == 2**20
    assert data.read([2**20 - 1]).shape == (1, 2**14)


FLOATS = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(
    ("files", "error", "words"),
    [
        ({}, ValueError, "with 1 other files"),
        ({"a": FLOATS, "b": np.zeros((3, 4), np.float32)}, ValueError, r"b.npy must hold .*a.npy"),
        ({"a": FLOATS, "b": np.zeros((3, 2), np.uint8)}, ValueError, r"b.npy must hold .*'u'"),
        ({"a": np.zeros((3, 2), np.int64)}, TypeError, r"a.npy must hold bytes .* dtype int64"),
        ({"a": np.zeros((3, 2), bool)}, TypeError, r"a.npy must hold bytes .* dtype bool"),
        ({"a": np.array([{}, 1])}, ValueError, r"a.npy cannot be read as an npy file"),
        ({"a": np.float32(1)}, ValueError, r"a.npy must have a leading axis"),
        ({"a": FLOATS[:0]}, ValueError, r"a.npy must hold at least one sample"),
        ({"a": FLOATS[:, :0]}, ValueError, r"a.npy must hold samples with numbers"),
    ],
)
def test_a_folder_that_cannot_be_read_is_refused_by_the_name_of_the_file(
    tmp_path, files, error, words
):
    (tmp_path / "notes.txt").write_text("")
    for name, values in files.items():
        np.save(tmp_path / f"{name}.npy", values, allow_pickle=True)
    with pytest.raises(error, match=words):
        folder(tmp_path)


def test_broken_and_unusual_files_are_named(tmp_path):
    for name, words in {"a.png": "as an image", "b.npy": "as an npy file"}.items():
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(ValueError, match=f"{name} cannot be read {words}"):
            folder(tmp_path)
        (tmp_path / name).unlink()
    Image.fromarray(np.zeros((2, 2), np.uint8)).convert("P").save(tmp_path / "c.png")
    with pytest.raises(TypeError, match=r"c.png must be .* grey, RGB or RGBA.*'P'.*convert"):
        folder(tmp_path)
    (tmp_path / "c.png").unlink()
    grey = Image.fromarray(np.zeros((2, 2), np.uint8))
    grey.save(tmp_path / "d.tif", save_all=True, append_images=[grey])
    with pytest.raises(TypeError, match=r"d.tif must be one image.* got 2 .*save each as a file"):
        folder(tmp_path)


@pytest.mark.parametrize(
    ("mode", "size", "words"),
    [("RGB", (2, 3), r'by Pillow.s image.convert\("RGB"\)'), ("L", (2, 4), "image.resize")],
)
def test_images_that_differ_are_refused_with_what_to_do(tmp_path, mode, size, words):
    Image.new("L", (2, 3)).save(tmp_path / "a.png")
    Image.new(mode, size).save(tmp_path / "b.png")
    with pytest.raises(ValueError, match=rf"b.png must hold samples like those of a.png.*{words}"):
        folder(tmp_path)


def test_an_image_that_pillow_refuses_for_its_size_is_named(tmp_path, monkeypatch):
    Image.new("L", (30, 30)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a.png cannot be read as an image: .*exceeds limit"):
        folder(tmp_path)


def test_a_truncated_image_is_named_when_it_is_read(tmp_path):
    pixels = np.random.default_rng().integers(0, 256, (64, 64)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    whole = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(whole[: len(whole) // 2])
    data = folder(tmp_path)
    with pytest.raises(ValueError, match=r"a.png cannot be read as an image"):
        data.read([0])


def test_numbers_that_are_not_finite_are_named_when_they_are_read(tmp_path):
    np.save(tmp_path / "a.npy", np.array([[1.0], [np.nan], [1e300]]))
    data = folder(tmp_path)
    assert data.read([0]) == 1
    for place in (1, 2):
        with (
            np.errstate(over="ignore"),
            pytest.raises(ValueError, match=r"a.npy must hold finite float32 numbers, got 1"),
        ):
            data.read([place])


@pytest.mark.parametrize("name", ["zarr", "PIL"])
def test_what_reads_a_file_is_named_if_it_is_missing(tmp_path, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    file = tmp_path / {"zarr": "a.zarr", "PIL": "a.png"}[name]
    file.mkdir() if name == "zarr" else file.write_bytes(b"")
    with pytest.raises(ImportError, match=r"pip install 'flowjax-solvers\[files\]'"):
        folder(tmp_path)


def test_bad_arguments_are_refused(arrays, unchecked):
    with pytest.raises(NotADirectoryError, match="path must be that of a folder"):
        folder(arrays / "none")
    with pytest.raises(TypeError, match="path must be that of a folder, got 3"):
        folder(3)
    data, key = folder(arrays), jax.random.key(0)
    with pytest.raises(ValueError, match="batch_size must be at most the number of samples = 12"):
        data.batches(key, 13)
    with pytest.raises(TypeError, match="key must be one JAX key"):
        data.batches(0, 4)
    with pytest.raises(ValueError, match="number of a batch must be 0 or more"):
        data.batches(key, 4, first=-1)
    with pytest.raises(TypeError, match="number of a batch must be a static int"):
        data.batch(key, 1.0, 4)
    with pytest.raises(IndexError, match="places must be from 0 to 11"):
        data.read([12])
    with pytest.raises(TypeError, match="places must be integers"):
        data.read([0.5])
