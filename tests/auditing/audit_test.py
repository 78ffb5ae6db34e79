"""The audit of a model that we did not train: planted images are found, and noise is not."""

import jax
import numpy as np
import pytest

from jaxinv.attacks.attack import ALL, Attack, mi_face
from jaxinv.attacks.weights import units
from jaxinv.auditing import audit as auditing
from jaxinv.auditing import extraction, plan
from jaxinv.auditing.audit import audit
from jaxinv.auditing.sources import LAYOUTS
from jaxinv.errors import InputError
from jaxinv.models.params import class_weights
from jaxinv.types import References, Release

SHAPE = (13, 11)


def smooth(num, shape=(13, 11, 1), seed=0):
  """Images with structure: noise, blurred by cumulative sums, of mean 0."""
  noise = np.random.default_rng(seed).standard_normal((num, *shape))
  images = noise.cumsum(1).cumsum(2)
  images -= images.mean((1, 2, 3), keepdims=True)
  return (images / images.std((1, 2, 3), keepdims=True)).astype(np.float32)


def flat(images, layout="hwc"):
  return images.transpose(0, *(1 + "hwc".index(letter) for letter in layout)).reshape(
    len(images), -1
  )


def noise(*shape, seed=1):
  return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def of(found, what, attack):
  (finding,) = [it for it in found.findings if (it.what, it.attack.name) == (what, attack)]
  return finding


def people(num, each=4, seed=0, shape=(13, 11, 1)):
  means = smooth(num, shape, seed)
  rng = np.random.default_rng(seed + 1)
  images = np.repeat(means, each, 0) + 0.5 * smooth(num * each, shape, seed + 2)
  images = images + 0.1 * rng.standard_normal(images.shape)
  owner = np.repeat(np.arange(num), each)
  names = tuple(f"s{i + 1}" for i in range(num))
  files = tuple(f"s{i // each + 1}/{i % each}.png" for i in range(num * each))
  images = (128 + 30 * images).astype(np.float32)
  return References(images, owner, names, files, grouped=True)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("channels", [1, 3])
def test_planted_images_are_read_out_whatever_their_layout(layout, channels):
  images = smooth(6, (13, 11, channels))
  found = audit({"kernel": flat(images, layout).T, "bias": np.zeros(6)}, (13, 11, channels))
  finding = of(found, "class", "reshape")
  np.testing.assert_array_equal(finding.images, images)
  assert finding.structured.all() and found.structure and found.match is None
  same = ({"hwc", "chw"}, {"whc", "cwh"})
  wanted = {layout} if channels > 1 else next(it for it in same if layout in it)
  assert finding.layout in wanted


def test_noise_shows_nothing_and_no_verdict_is_made_of_it():
  found = audit({"w": noise(143, 1000)}, SHAPE, alpha=0.05)
  assert not found.structure
  p_values = of(found, "class", "reshape").p_values
  # Two layouts were tried, so the share is a half of the nominal one up to the true one.
  assert 0.01 < (p_values <= 0.05).mean() < 0.065


def test_one_image_among_a_thousand_units_of_noise_is_found():
  weights = noise(143, 1000)
  weights[:, 700] += 2 * flat(smooth(1))[0]
  finding = of(audit({"w": weights}, SHAPE), "class", "reshape")
  assert np.flatnonzero(finding.structured).tolist() == [700]


def test_the_attacks_are_those_of_the_study():
  rng = np.random.default_rng(2)
  images = flat(smooth(5))

  def linear(scale):
    kernel = scale * images.T + 0.3 * rng.standard_normal((143, 5)).astype(np.float32)
    return {"layer": {"kernel": kernel, "bias": rng.standard_normal(5).astype(np.float32)}}

  now, start, before, other = (linear(scale) for scale in (1.0, 0.0, 0.7, 0.9))
  found = audit(now, SHAPE, init_params=start, previous_params=before, peers=[other])
  held = Release(now, start, jax.tree.map(lambda *it: np.stack(it), now, other), before)
  assert [it.attack for it in found.findings] == list(plan.DEFAULT)
  for finding in found.findings:
    wanted = finding.attack(held, SHAPE)
    np.testing.assert_allclose(
      finding.images[..., 0], wanted, rtol=1e-5, atol=1e-6, err_msg=finding.attack.name
    )
  (asked,) = audit(now, SHAPE, attacks=["mi_face"]).findings
  np.testing.assert_allclose(asked.images[..., 0], mi_face(held, SHAPE), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("torch", [False, True])
def test_classes_behind_hidden_layers_and_their_units(torch):
  params = {"0": {"kernel": noise(143, 7)}, "1": {"kernel": noise(7, 4, seed=2)}}
  given = params
  if torch:
    given = {f"{name}.weight": layer["kernel"].T for name, layer in params.items()}
  found = audit(given, SHAPE)
  wanted = class_weights(params, 143).reshape(-1, *SHAPE)
  recovered = of(found, "class", "reshape").images[..., 0]
  np.testing.assert_allclose(recovered, wanted, rtol=1e-5, atol=1e-6)
  seen = units(params, SHAPE)
  np.testing.assert_array_equal(of(found, "unit", "reshape").images[..., 0], seen)


def own(recover, name="own", needs=("params",), **options):
  return Attack(name, recover, frozenset(needs), **options)


@pytest.mark.parametrize("hidden", [False, True])
def test_an_attack_of_the_callers_own_gets_all_that_it_needs(hidden):
  """What the attack called init_diff gets, any attack that names the same fields gets too."""
  seen = []

  def recover(release, image_shape):
    seen.append(release)
    kernel = release.params["layer_0"]["kernel"] - release.init_params["layer_0"]["kernel"]
    kernel = kernel + 0 * release.previous_params["layer_0"]["kernel"]
    kernel = kernel + 0 * release.peers["layer_0"]["kernel"].sum(0)
    images = kernel if not hidden else kernel @ release.params["layer_1"]["kernel"]
    return images.T.reshape(-1, *image_shape)

  def model(seed):
    layers = (
      [noise(143, 7, seed=seed), noise(7, 5, seed=seed)] if hidden else [noise(143, 5, seed=seed)]
    )
    return {f"{i}": {"kernel": kernel} for i, kernel in enumerate(layers)}

  others = {"init_params": model(2), "previous_params": model(3), "peers": [model(4)]}
  mine = own(recover, needs=("params", "init_params", "previous_params", "peers"))
  found = audit(model(1), SHAPE, attacks=["reshape", mine], **others)
  finding = of(found, "class", "own")
  assert finding.attack is mine and finding.images.shape == (5, 13, 11, 1)
  difference = model(1)["0"]["kernel"] - model(2)["0"]["kernel"]
  wanted = difference if not hidden else difference @ model(1)["1"]["kernel"]
  np.testing.assert_allclose(finding.images.reshape(5, -1), wanted.T, rtol=1e-4, atol=1e-4)
  assert jax.tree.leaves(seen[0].peers)[0].shape[0] == 2
  # What an attack does not ask for it does not get.
  audit(model(1), SHAPE, attacks=[own(lambda r, s: seen.append(r) or ALL[0](r, s))], **others)
  assert seen[-1].init_params is None and seen[-1].peers is None


def test_an_attack_of_the_callers_own_may_take_some_units_at_a_time(monkeypatch):
  sizes = []

  def recover(release, image_shape):
    sizes.append(release.params["layer_0"]["kernel"].shape[1])
    return -release.params["layer_0"]["kernel"].T.reshape(-1, *image_shape)

  monkeypatch.setattr(extraction, "_BLOCK_BYTES", 4 * 143 * 5)
  weights = noise(143, 12)
  for per_unit in (False, True):
    finding = of(
      audit({"w": weights}, SHAPE, attacks=[own(recover, per_unit=per_unit)]), "class", "own"
    )
    np.testing.assert_array_equal(finding.images.reshape(12, -1), -weights.T)
  assert sizes == [12, 5, 5, 2]


@pytest.mark.parametrize("attack", [*(it for it in ALL if not it.smooths), own(ALL[0].recover)])
def test_every_attack_reads_coloured_images_as_such(attack):
  images = smooth(4, (6, 5, 3))
  now = {"w": flat(images, "chw").T, "b": np.arange(1.0, 5.0)}
  before = {"w": 0 * now["w"], "b": np.zeros(4)}
  shapes = []

  def recover(release, image_shape):
    shapes.append(image_shape)
    return attack.recover(release, image_shape)

  found = audit(
    now,
    (6, 5, 3),
    layout="chw",
    init_params=before,
    previous_params=before,
    peers=[now],
    attacks=[attack._replace(recover=recover)],
  )
  recovered = of(found, "class", attack.name).images
  assert recovered.shape == (4, 6, 5, 3) and set(shapes) == {(6, 5, 3)}
  if attack.name in ("reshape", "init_diff", "seed_mean", "own"):
    np.testing.assert_allclose(recovered, images, atol=1e-6)


@pytest.mark.parametrize("attack", [it for it in ALL if it.smooths and "others" not in it.needs])
def test_attacks_that_smooth_are_refused(attack):
  """Of noise they make images that have structure: the audit would raise a false alarm."""
  now = {"w": noise(143, 4), "b": np.ones(4)}
  with pytest.raises(InputError, match="smooths whatever it is given"):
    audit(now, SHAPE, init_params=now, peers=[now], attacks=[attack])


def fail(release, image_shape):
  raise KeyError("no\nsuch layer")


@pytest.mark.parametrize(
  ("recover", "words"),
  [
    (fail, "it raised KeyError: 'no\\nsuch layer'"),
    (lambda release, shape: np.zeros((2, *shape)), "an array of shape (2, 13, 11), not 4 images"),
    (lambda release, shape: np.zeros((4, 5)), "an array of shape (4, 5), not 4 images of 13 x 11"),
    (lambda release, shape: "faces", "it raised ValueError"),
  ],
)
def test_an_attack_that_fails_costs_that_attack_a_line(recover, words):
  found = audit({"w": noise(143, 4)}, SHAPE, attacks=["reshape", own(recover)])
  assert [it.attack.name for it in found.findings] == ["reshape"]
  (note,) = [note for note in found.notes if "left out" in note]
  assert note.startswith("own of w (class) was left out: ") and words in note
  assert "\n" not in note
  with pytest.raises(InputError, match="none of the attacks own is possible here: own of w"):
    audit({"w": noise(143, 4)}, SHAPE, attacks=[own(recover)])


def test_images_that_are_not_finite_are_noise_and_it_is_said():
  found = audit({"w": noise(143, 4)}, SHAPE, attacks=[own(lambda r, s: np.full((4, *s), np.nan))])
  assert not found.structure and of(found, "class", "own").p_values.tolist() == [1] * 4
  assert any("own of w has values that are not finite" in note for note in found.notes)


def test_an_attack_of_the_callers_own_says_what_it_lacks():
  recover = ALL[0].recover
  for needs, words in (("peers", "several models"), ("gradients", "which an audit has not")):
    with pytest.raises(InputError, match=f"own needs .*{words}"):
      audit({"w": noise(143, 4)}, SHAPE, attacks=[own(recover, needs=("params", needs))])
  with pytest.raises(InputError, match="'reshape' is named twice"):
    audit({"w": noise(143, 4)}, SHAPE, attacks=["reshape", own(recover, "reshape")])


def test_some_units_at_a_time_give_what_all_at_once_give(monkeypatch):
  params = {"fc": {"kernel": noise(143, 23), "bias": noise(23)}}
  before = {"fc": {"kernel": noise(143, 23, seed=5), "bias": noise(23, seed=6)}}
  whole = audit(params, SHAPE, previous_params=before, init_params=before, peers=[before])
  monkeypatch.setattr(extraction, "_BLOCK_BYTES", 4 * 143 * 5)
  parts = audit(params, SHAPE, previous_params=before, init_params=before, peers=[before])
  for one, other in zip(whole.findings, parts.findings, strict=True):
    np.testing.assert_allclose(one.images, other.images, rtol=1e-6)
    np.testing.assert_allclose(one.q_values, other.q_values, rtol=1e-6)


def test_of_many_images_the_clearest_are_kept(monkeypatch):
  weights = noise(143, 50)
  weights[:, [3, 30, 44]] += 3 * flat(smooth(3)).T
  monkeypatch.setattr(auditing, "_KEPT", 3)
  monkeypatch.setattr(extraction, "_BLOCK_BYTES", 4 * 143 * 8)
  finding = of(audit({"w": weights}, SHAPE), "class", "reshape")
  assert finding.kept.tolist() == [3, 30, 44]
  np.testing.assert_array_equal(finding.images, weights.T[finding.kept].reshape(-1, 13, 11, 1))
  assert len(finding.morans_i) == 50


def test_people_are_recognised_and_strangers_are_not():
  references = people(20)
  means = references.images.reshape(20, 4, -1).mean(1)
  weights = (means - means.mean(0)).T / 100 + 0.05 * noise(143, 20)
  found = audit({"w": weights}, SHAPE, references=references)
  finding = of(found, "class", "reshape")
  assert found.match and finding.matched.mean() >= 0.7
  assert (finding.match.person == np.arange(20))[finding.matched].all()
  assert found.measures["reshape"]["identification"] == 1
  assert found.measures["reshape"]["ncc_centred"] > 0.8
  strangers = audit({"w": weights}, SHAPE, references=people(20, seed=50))
  assert of(strangers, "class", "reshape").matched.mean() <= 0.05


def test_faint_likenesses_count_together_where_the_classes_are_known():
  """No class stands out by itself, but that all are closest to their own person is no chance."""
  references = people(20)
  means = references.images.reshape(20, 4, -1).mean(1)
  weights = (means - means.mean(0)).T / 100 + noise(143, 20)
  found = audit({"w": weights}, SHAPE, references=references, attacks=["reshape"])
  assert not of(found, "class", "reshape").matched.any()
  assert found.measures["reshape"]["identification_p"] < 1e-3
  assert found.match and found.identifying == "reshape"
  strangers = audit({"w": weights}, SHAPE, references=people(20, seed=50))
  assert strangers.identifying is None and strangers.match is False


def test_classes_in_the_order_of_the_alphabet_are_found_to_be_so():
  references = people(12)
  order = sorted(range(12), key=references.people.__getitem__)
  means = references.images.reshape(12, 4, -1).mean(1)[order]
  found = audit({"w": (means - means.mean(0)).T}, SHAPE, references=references)
  assert found.measures["reshape"]["identification"] == 1
  assert any("in the order of the alphabet" in note for note in found.notes)


def test_references_of_other_people_than_classes_give_no_measures_of_classes():
  found = audit({"w": noise(143, 4)}, SHAPE, references=people(7))
  assert not found.measures and found.match is False


def test_filters_are_no_part_of_the_verdict():
  kernels = np.repeat(smooth(8, (7, 7, 1)), 1, 0).transpose(1, 2, 3, 0)
  found = audit({"conv": kernels, "fc": noise(143, 4)}, SHAPE)
  assert of(found, "filter", "reshape").structured.any() and not found.structure
  assert any("fc may stand behind them" in note for note in found.notes)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_weights_that_are_not_finite_are_named(bad):
  weights = noise(143, 4).astype(np.float64)
  weights[5, 2] = bad
  with pytest.raises(InputError, match=r"^fc/kernel (holds NaN or infinite|is beyond float32)"):
    audit({"fc": {"kernel": weights}}, SHAPE)


@pytest.mark.parametrize(
  ("options", "message"),
  [
    ({"image_shape": (13,)}, "give height and width"),
    ({"image_shape": (13, 0)}, "give height and width"),
    ({"image_shape": (13, 12)}, "no tensor fits"),
    ({"alpha": 0.0}, "alpha is 0"),
    ({"references": people(5, shape=(9, 7, 1))}, "load them with its image shape"),
    ({"alpha": float("nan")}, "alpha is nan"),
    ({"layout": "x"}, "unknown layout 'x'"),
    ({"attacks": ["x"]}, "unknown attack 'x'"),
    ({"attacks": ["init_diff"]}, "needs the initial weights"),
    ({"attacks": ["update_ratio"]}, "needs an earlier release"),
    ({"attacks": ["seed_mean"]}, "needs several models"),
    ({"params": {}}, "no arrays"),
    ({"init_params": {}}, "no tensor w in the initial weights"),
    ({"previous_params": {"w": np.zeros((143, 5))}}, "w is .143, 5. in the previous weights"),
    ({"peers": [{}]}, "no tensor w in model 2"),
  ],
)
def test_what_does_not_fit_together_is_said(options, message):
  given = {"params": {"w": noise(143, 4)}, "image_shape": SHAPE} | options
  with pytest.raises(InputError, match=message):
    audit(given.pop("params"), given.pop("image_shape"), **given)


def test_half_precision_is_read_as_it_is():
  weights = noise(143, 4).astype(np.float16)
  finding = of(audit({"w": weights}, SHAPE), "class", "reshape")
  np.testing.assert_array_equal(finding.images, weights.T.reshape(-1, 13, 11, 1))


def test_the_same_audit_gives_the_same_numbers():
  params = {"w": noise(143, 9)}
  one, other = (audit(params, SHAPE).findings[0] for _ in range(2))
  np.testing.assert_array_equal(one.p_values, other.p_values)


def test_other_models_may_name_the_same_tensors_with_more_in_front():
  now, start = (
    {"fc": {"weight": noise(4, 143)}},
    {"model": {"fc": {"weight": noise(4, 143, seed=3)}}},
  )
  difference = now["fc"]["weight"] - start["model"]["fc"]["weight"]
  for one, other, sign in ((now, start, 1), (start, now, -1)):
    found = audit(one, SHAPE, init_params=other, layout="hwc")
    finding = of(found, "class", "init_diff")
    np.testing.assert_array_equal(finding.images.reshape(4, -1), sign * difference)


def test_what_is_doubtful_is_said():
  params = {"w": noise(143, 4)}
  assert any("is 0 everywhere" in it for it in audit(params, SHAPE, init_params=params).notes)
  side = audit({"w": flat(smooth(6)).T}, (11, 13))
  assert any("the image shape is 13,11" in it for it in side.notes)
  many = audit({"w": noise(12, 143)}, (4, 3))
  assert any("143 classes of images of 12 values" in it for it in many.notes)


def test_the_order_of_the_classes_that_is_given_is_the_only_one_tried():
  references = people(12)
  means = references.images.reshape(12, 4, -1).mean(1)
  weights = {"w": (means - means.mean(0)).T}
  turned = references._replace(person=11 - references.person, people=references.people[::-1])
  assert audit(weights, SHAPE, references=turned).measures["reshape"]["identification"] < 0.5
  given = audit(weights, SHAPE, references=turned._replace(ordered=True))
  assert given.measures["reshape"]["identification"] < 0.5 and given.identifying is None
  assert any(it.endswith("in the order of --classes.") for it in given.notes)


def test_weights_too_small_for_single_precision_are_no_all_clear():
  with pytest.raises(InputError, match="w is below float32: its largest value is"):
    audit({"w": 1e-300 * flat(smooth(6)).T.astype(np.float64)}, SHAPE)


def test_weights_of_whole_numbers_are_said_not_to_be_read():
  with pytest.raises(InputError, match="would fit the images, but int8 is not read"):
    audit({"w": np.zeros((143, 4), np.int8)}, SHAPE)
