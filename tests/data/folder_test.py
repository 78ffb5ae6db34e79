"""Reference images: every layout and format loads alike, every fault is one clear line."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jaxinv.data import folder as module
from jaxinv.data.folder import load_folder, load_references
from jaxinv.errors import InputError

SHAPE = (5, 4, 1)


def grey(seed, shape=SHAPE[:2]):
  return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def colours(seed, shape=SHAPE[:2]):
  return grey(seed, (*shape, 3))


def encode(values, kind="PNG", mode=None, **options):
  """A file's bytes."""
  image = values if isinstance(values, Image.Image) else Image.fromarray(values)
  stream = io.BytesIO()
  (image.convert(mode) if mode else image).save(stream, kind, **options)
  return stream.getvalue()


def write(root, files):
  """Writes {path: bytes}, the folders too."""
  for name, raw in files.items():
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(raw)
  return root


def load_one(root, name, raw, shape=SHAPE):
  """The image that a folder with this one file gives."""
  found = load_references(write(root, {name: raw}), shape)
  assert found.files == (name,) and found.images.dtype == np.float32
  return found.images[0]


def assert_fails(call, *parts):
  """The call raises an InputError of one line that has all parts."""
  with pytest.raises(InputError) as caught:
    call()
  message = str(caught.value)
  assert "\n" not in message and "\r" not in message
  for part in parts:
    assert str(part) in message, message


def people(names=("s1", "s2", "s10"), images=("1.png", "2.png", "10.png")):
  """{path: bytes} of images that differ, in the order that they should come in."""
  paths = [f"{person}/{image}" for person in names for image in images]
  return {path: encode(grey(seed)) for seed, path in enumerate(paths)}


# ---- Layouts -------------------------------------------------------------------------------------


def test_a_sub_folder_is_a_person_and_names_come_in_natural_order(tmp_path):
  files = people()
  found = load_references(write(tmp_path, dict(reversed(files.items()))), SHAPE)
  assert found.people == ("s1", "s2", "s10") and found.files == tuple(files)
  np.testing.assert_array_equal(found.person, np.repeat([0, 1, 2], 3))
  np.testing.assert_array_equal(found.images[..., 0], [grey(i) for i in range(9)])
  assert found.grouped and found.notes == () and found.images.dtype == np.float32


def test_in_a_pool_each_image_is_a_person(tmp_path):
  names = ("b.png", "c2.png", "c10.png")
  files = {name: encode(grey(i)) for i, name in enumerate(names)}
  found = load_references(write(tmp_path, files), SHAPE)
  assert found.people == found.files == names and not found.grouped
  np.testing.assert_array_equal(found.person, [0, 1, 2])
  np.testing.assert_array_equal(found.images[..., 0], [grey(i) for i in range(3)])


def test_people_may_have_different_numbers_of_images(tmp_path):
  files = {f"{who}/{i}.png": encode(grey(i)) for who, n in (("a", 1), ("b", 3)) for i in range(n)}
  np.testing.assert_array_equal(load_references(write(tmp_path, files), SHAPE).person, [0, 1, 1, 1])


def test_what_is_no_image_is_passed_over_and_told(tmp_path):
  others = ("README", "Thumbs.db", "s1/notes.txt", ".DS_Store", "s2/._1.png", "s1/more/3.png")
  found = load_references(write(tmp_path, people() | dict.fromkeys(others, b"x")), SHAPE)
  assert len(found.images) == 9 and len(found.notes) == 1
  for part in ("3 without", "README, Thumbs.db, s1/notes.txt", "2 hidden", "1 folders", "s1/more"):
    assert part in found.notes[0]


def test_many_files_passed_over_are_counted_not_listed(tmp_path):
  files = people() | {f"{i}.txt": b"" for i in range(50)}
  (note,) = load_references(write(tmp_path, files), SHAPE).notes
  assert note == "passed over: 50 without an image's ending (0.txt, 1.txt, 2.txt, ...)"


def test_sub_folders_without_images_are_told(tmp_path):
  write(tmp_path, people())
  (tmp_path / "s3").mkdir()
  (tmp_path / "s4").mkdir()
  found = load_references(tmp_path, SHAPE)
  assert found.people == ("s1", "s2", "s10")
  assert found.notes == ("no images in 2 sub-folders (s3, s4)",)


def test_a_pool_may_lie_beside_sub_folders_without_images(tmp_path):
  write(tmp_path, {"a.png": encode(grey(0))})
  (tmp_path / "empty").mkdir()
  found = load_references(tmp_path, SHAPE)
  assert found.people == ("a.png",) and "1 sub-folder (empty)" in found.notes[0]


def test_images_beside_people_are_refused(tmp_path):
  write(tmp_path, people() | {"stray.png": encode(grey(0))})
  assert_fails(lambda: load_references(tmp_path, SHAPE), tmp_path, "stray.png", "s1/", "alone")


@pytest.mark.parametrize("target", ["inside", "outside", "nowhere"])
def test_links_are_not_followed(tmp_path, target):
  root = write(tmp_path / "root", people())
  outside = write(tmp_path / "outside", {"x.png": encode(grey(77))})
  places = {"inside": root / "s1", "outside": outside, "nowhere": tmp_path / "none"}
  (root / "s3").symlink_to(places[target])
  (root / "s1" / "x.png").symlink_to(places[target] / "x.png")
  found = load_references(root, SHAPE)
  assert found.people == ("s1", "s2", "s10") and len(found.images) == 9
  assert found.notes == ("passed over: 2 symbolic links (s3, s1/x.png)",)


def test_the_folder_itself_may_be_a_link(tmp_path):
  (tmp_path / "link").symlink_to(write(tmp_path / "root", people()))
  assert len(load_references(tmp_path / "link", SHAPE).images) == 9


def test_a_pipe_named_like_an_image_does_not_block(tmp_path):
  os.mkfifo(write(tmp_path, people()) / "s1" / "pipe.png")
  assert "pipe.png" in load_references(tmp_path, SHAPE).notes[0]


def test_names_of_any_bytes_are_shown_on_one_line(tmp_path):
  write(tmp_path, people())
  try:
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/s\xff\n7"))
    write(folder, {"1.png": encode(grey(0))})
  except OSError:
    pytest.skip("this file system takes only text as names")
  found = load_references(tmp_path, SHAPE)
  assert len(found.people) == 4 and all(name.isprintable() for name in found.people + found.files)
  (folder / "1.png").write_bytes(b"x")
  assert_fails(lambda: load_references(tmp_path, SHAPE), "1.png", "no image")


# ---- Formats -------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, ending", [
  ("PNG", "png"), ("PPM", "pgm"), ("PPM", "PGM"), ("BMP", "bmp"), ("GIF", "gif"), ("TIFF", "tif"),
  ("TIFF", "TIFF"), ("PNG", "jpg"),
])  # fmt: skip
def test_formats_without_loss_give_their_pixels(tmp_path, kind, ending):
  """The last is a PNG with another ending: what counts is what it holds."""
  image = load_one(tmp_path, f"a.{ending}", encode(grey(1), kind))
  np.testing.assert_array_equal(image[..., 0], grey(1))


@pytest.mark.parametrize("kind, ending", [("JPEG", "jpeg"), ("WEBP", "webp")])
def test_formats_with_loss_come_near(tmp_path, kind, ending):
  smooth = np.uint8(np.add.outer(np.arange(40), np.arange(32)) * 3)
  image = load_one(tmp_path, f"a.{ending}", encode(smooth, kind, quality=95), (40, 32, 1))
  assert np.abs(image[..., 0] - smooth).max() < 6


def test_plain_text_and_16_bit_pgm(tmp_path):
  plain = f"P2 4 5 255 {' '.join(map(str, grey(2).ravel()))}".encode()
  np.testing.assert_array_equal(load_one(tmp_path / "p", "a.pgm", plain)[..., 0], grey(2))
  deep = b"P5 4 5 65535 " + (grey(2).astype(">u2") * 257).tobytes()
  np.testing.assert_allclose(load_one(tmp_path / "d", "a.pgm", deep)[..., 0], grey(2), atol=1e-4)


@pytest.mark.parametrize("kind, ending", [("PNG", "png"), ("TIFF", "tif")])
@pytest.mark.parametrize("channels", [1, 3])
def test_16_bits_are_scaled_and_not_cut(tmp_path, kind, ending, channels):
  values = np.random.default_rng(0).integers(0, 65536, SHAPE[:2], dtype=np.uint16)
  image = load_one(tmp_path, f"a.{ending}", encode(values, kind), (*SHAPE[:2], channels))
  np.testing.assert_allclose(image, np.repeat(values[..., None] / 257, channels, 2), atol=1e-4)


def test_colours_become_grey_by_their_luma(tmp_path):
  image = load_one(tmp_path, "a.png", encode(colours(3)))[..., 0]
  np.testing.assert_allclose(image, colours(3) @ [0.299, 0.587, 0.114], atol=1)


def test_colours_stay_and_grey_is_made_colours(tmp_path):
  image = load_one(tmp_path / "c", "a.png", encode(colours(3)), (5, 4, 3))
  np.testing.assert_array_equal(image, colours(3))
  image = load_one(tmp_path / "g", "a.png", encode(grey(3)), (5, 4, 3))
  np.testing.assert_array_equal(image, np.repeat(grey(3)[..., None], 3, 2))


def test_palettes_and_bits_are_looked_up(tmp_path):
  few = np.array([[[250, 0, 0], [0, 0, 250]], [[0, 250, 0], [9, 9, 9]]], np.uint8)
  raw = encode(Image.fromarray(few).quantize(4))
  np.testing.assert_array_equal(load_one(tmp_path / "p", "a.png", raw, (2, 2, 3)), few)
  bits = encode(grey(4), mode="1")
  assert set(load_one(tmp_path / "b", "a.png", bits).ravel()) == {0, 255}


def test_what_is_transparent_is_white_whatever_colour_hides_there(tmp_path):
  values = np.dstack([colours(5), np.full(SHAPE[:2], 255, np.uint8)])
  values[0, 0, 3], values[1, 1, 3] = 0, 51
  image = load_one(tmp_path / "a", "a.png", encode(values), (5, 4, 3))
  expected = np.float32(colours(5))
  expected[0, 0], expected[1, 1] = 255, 0.2 * expected[1, 1] + 0.8 * 255
  np.testing.assert_allclose(image, expected, atol=1)
  palette = Image.fromarray(grey(5)).quantize(4)
  index = palette.getpixel((0, 0))
  image = load_one(tmp_path / "p", "a.gif", encode(palette, "GIF", transparency=index))
  assert (image[np.asarray(palette) == index] == 255).all()


@pytest.mark.parametrize("kind, ending", [("PNG", "png"), ("TIFF", "tif")])
def test_an_exif_orientation_turns_the_image(tmp_path, kind, ending):
  exif = Image.Exif()
  exif[0x0112] = 6  # To be turned right by 90 degrees.
  raw = encode(np.rot90(grey(6)), kind, exif=exif)
  np.testing.assert_array_equal(load_one(tmp_path, f"a.{ending}", raw)[..., 0], grey(6))


def test_of_a_film_the_first_frame_counts(tmp_path):
  rest = [Image.fromarray(grey(i)) for i in (8, 9)]
  raw = encode(grey(7), "GIF", save_all=True, append_images=rest)
  np.testing.assert_array_equal(load_one(tmp_path, "a.gif", raw)[..., 0], grey(7))


# ---- Sizes ---------------------------------------------------------------------------------------


def test_other_sizes_are_resized_with_antialiasing_and_told(tmp_path):
  """Stripes finer than the pixels come out an even grey; every second pixel would be black."""
  stripes = np.tile(np.uint8([0, 255]), (50, 20))
  found = load_references(write(tmp_path, {"a.png": encode(stripes)}), SHAPE)
  assert np.abs(found.images - 127.5).max() < 5
  assert found.notes == ("1 of 1 images were resized from 40 x 50 to 4 x 5 pixels",)


def test_several_sizes_and_changed_proportions_are_told(tmp_path):
  sizes = ((5, 4), (10, 8), (10, 8), (40, 8))
  files = {f"{i}.png": encode(grey(i, size)) for i, size in enumerate(sizes)}
  found = load_references(write(tmp_path, files), SHAPE)
  np.testing.assert_array_equal(found.images[0, ..., 0], grey(0))
  assert found.notes == (
    "3 of 4 images were resized from other sizes, most often 8 x 10, to 4 x 5 pixels, "
    "1 of them stretched to other proportions",
  )


def test_resizing_keeps_16_bits_and_their_range(tmp_path):
  """Bicubic weights go beyond black and white next to an edge."""
  values = np.zeros((25, 20), np.uint16)
  values[:, 10:] = 65535
  image = load_one(tmp_path, "a.png", encode(values))[..., 0]
  assert image.min() == 0 and image.max() == 255 and (np.diff(image, axis=1) >= 0).all()
  eight = load_one(tmp_path, "a.png", encode(np.uint8(values // 257)))[..., 0]
  np.testing.assert_allclose(image, eight, atol=1)


def test_a_turned_image_is_told_by_its_size_when_turned(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6
  raw = encode(np.rot90(grey(6, (10, 8))), exif=exif)
  (note,) = load_references(write(tmp_path, {"a.png": raw}), SHAPE).notes
  assert "from 8 x 10 to" in note and "stretched" not in note


# ---- Faults --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, ending", [
  ("PNG", "png"), ("JPEG", "jpg"), ("PPM", "pgm"), ("BMP", "bmp"), ("GIF", "gif"), ("TIFF", "tif"),
  ("WEBP", "webp"),
])  # fmt: skip
def test_a_truncated_image_is_told_by_its_name(tmp_path, kind, ending):
  raw = encode(grey(0, (64, 48)), kind)
  for size in (len(raw) * 3 // 4, len(raw) // 4, 3, 0):
    write(tmp_path, {f"s1/cut.{ending}": raw[:size]})
    assert_fails(lambda: load_references(tmp_path, SHAPE), "cannot read", f"s1/cut.{ending}")


@pytest.mark.parametrize("raw", [b"", b"hello", b"P5 -4 5 255 ", b"P5 0 5 255 ", b"\x80\x04K\x01."])
def test_what_is_no_image_but_named_like_one_is_refused(tmp_path, raw):
  write(tmp_path, people() | {"s2/fake.png": raw})
  assert_fails(lambda: load_references(tmp_path, SHAPE), "s2/fake.png", "no image", "remove")


@pytest.mark.parametrize("kind", ["ICO", "PCX", "TGA", "PDF"])
def test_formats_that_are_not_promised_are_not_tried(tmp_path, kind):
  write(tmp_path, {"a.png": encode(colours(0, (16, 16)), kind)})
  assert_fails(lambda: load_references(tmp_path, SHAPE), "a.png")


@pytest.mark.parametrize("size", ["10000 10000", "20000 20000", "999999999 999999999"])
def test_a_decompression_bomb_is_refused(tmp_path, size):
  """The first of these only makes Pillow warn."""
  write(tmp_path, {"bomb.pgm": f"P5 {size} 255 ".encode()})
  assert_fails(lambda: load_references(tmp_path, SHAPE), "bomb.pgm")


def test_values_without_a_known_white_are_refused(tmp_path):
  raw = encode(np.linspace(0, 1, 20, dtype=np.float32).reshape(5, 4), "TIFF")
  assert_fails(lambda: load_one(tmp_path / "f", "a.tif", raw), "a.tif", "floating-point")
  raw = encode(np.full((5, 4), 70_000, np.int32), "TIFF")
  assert_fails(lambda: load_one(tmp_path / "i", "a.tif", raw), "a.tif", "0..65535")


def test_places_without_images(tmp_path):
  assert_fails(lambda: load_references(tmp_path / "none", SHAPE), tmp_path / "none", "No such")
  assert_fails(lambda: load_references(tmp_path, SHAPE), tmp_path, "no images", "sub-folder")
  write(tmp_path, {"a.png": encode(grey(0))})
  assert_fails(lambda: load_references(tmp_path / "a.png", SHAPE), "a.png", "Not a directory")
  write(tmp_path / "deep", people(("x/s1", "x/s2")))
  assert_fails(lambda: load_references(tmp_path / "deep", SHAPE), "no images", "x/s1, x/s2")


def test_what_may_not_be_read_is_told(tmp_path, monkeypatch):
  write(tmp_path, people())

  def refuse(path, *_):
    raise PermissionError(13, "Permission denied", str(path))

  with monkeypatch.context() as patch:
    patch.setattr(os, "scandir", refuse)
    assert_fails(lambda: load_references(tmp_path, SHAPE), tmp_path, "(Permission denied)")
  monkeypatch.setattr("builtins.open", refuse)
  assert_fails(lambda: load_references(tmp_path, SHAPE), "s1/1.png (Permission denied)")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_permissions_of_a_real_file_system(tmp_path):
  write(tmp_path, people())
  (tmp_path / "s1" / "1.png").chmod(0)
  assert_fails(lambda: load_references(tmp_path, SHAPE), "s1/1.png (Permission denied)")
  (tmp_path / "s1").chmod(0)
  assert_fails(lambda: load_references(tmp_path, SHAPE), "s1 (Permission denied)")
  (tmp_path / "s1").chmod(0o700)


@pytest.mark.parametrize("shape", [(5, 4, 2), (5, 4, 4), (0, 4, 1)])
def test_shapes_that_no_reference_has(tmp_path, shape):
  size = "x".join(map(str, shape))
  assert_fails(lambda: load_references(write(tmp_path, people()), shape), size, "1 (grey) or 3")


def test_the_number_of_files_and_bytes_is_bounded(tmp_path, monkeypatch):
  write(tmp_path, people())
  monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 9 * 20 * 4 - 1)
  assert_fails(lambda: load_references(tmp_path, SHAPE), "9 images of 5x4x1", "719 bytes")
  monkeypatch.setattr(module, "MAX_TOTAL_BYTES", 9 * 20 * 4)
  load_references(tmp_path, SHAPE)
  monkeypatch.setattr(module, "MAX_IMAGES", 8)
  assert_fails(lambda: load_references(tmp_path, SHAPE), tmp_path, "over 8 images")
  write(tmp_path, {f"s1/{i}.txt": b"" for i in range(9)})
  assert_fails(lambda: load_references(tmp_path, SHAPE), "s1", "over 8 images")


def test_a_huge_shape_is_refused_before_anything_is_allocated(tmp_path):
  shape = (10**6, 10**6, 3)
  assert_fails(lambda: load_references(write(tmp_path, people()), shape), "are over", "give fewer")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "PPM", "BMP", "GIF", "TIFF", "WEBP"])
def test_damaged_files_give_an_image_or_one_line(tmp_path, kind):
  """Whatever the bytes are, Pillow's own errors do not come through."""
  rng = np.random.default_rng(0)
  raw = np.frombuffer(encode(grey(0, (16, 12)), kind), np.uint8)
  for _ in range(60):
    harmed = raw.copy()
    harmed[rng.integers(0, len(raw), rng.integers(1, 6))] = rng.integers(0, 256)
    write(tmp_path, {"a.png": harmed.tobytes()})
    try:
      images = load_references(tmp_path, SHAPE).images
      assert np.isfinite(images).all() and images.min() >= 0 and images.max() <= 255
    except InputError as error:
      assert "a.png" in str(error) and str(error).isprintable()


# ---- The real faces ------------------------------------------------------------------------------


def test_the_real_faces_are_those_of_the_other_loader():
  from jaxinv.data.att import load_att

  root = Path(os.environ.get("JAXINV_DATA", ""), "att_faces")
  if not os.environ.get("JAXINV_DATA") or not root.is_dir():
    pytest.skip("JAXINV_DATA names no folder with att_faces/")
  found, dataset = load_references(root, (112, 92, 1)), load_att(root)
  np.testing.assert_allclose(found.images.reshape(400, -1), 255 * dataset.inputs, atol=1e-3)
  np.testing.assert_array_equal(found.person, dataset.labels)
  assert found.people == dataset.names and found.grouped


# ---- Data sets -----------------------------------------------------------------------------------


def test_a_data_set_has_a_class_a_sub_folder(tmp_path):
  files = people()
  found = load_folder(write(tmp_path, dict(reversed(files.items()))))
  assert found.names == ("s1", "s2", "s10") and found.image_shape == SHAPE[:2]
  np.testing.assert_array_equal(found.labels, np.repeat([0, 1, 2], 3))
  expected = np.stack([grey(i).ravel() for i in range(9)]) / np.float32(255)
  np.testing.assert_array_equal(found.inputs, expected)
  assert found.inputs.dtype == np.float32 and not found.drawn and not found.credit


@pytest.mark.parametrize(
  ("kind", "ending"),
  [("PNG", "png"), ("BMP", "bmp"), ("TIFF", "tif"), ("PPM", "ppm"), ("WEBP", "webp")],
)
def test_a_data_set_with_a_coloured_image_is_in_colour(kind, ending, tmp_path):
  options = {"lossless": True} if kind == "WEBP" else {}
  files = {f"a/1.{ending}": encode(colours(0), kind, **options), "b/1.png": encode(grey(1))}
  found = load_folder(write(tmp_path, files))
  assert found.image_shape == (5, 4, 3)
  images = np.rint(255 * found.inputs).reshape(-1, 5, 4, 3)
  np.testing.assert_array_equal(images[0], colours(0))
  np.testing.assert_array_equal(images[1], np.repeat(grey(1)[..., None], 3, 2))


def test_a_data_set_is_resized_where_a_resolution_is_given(tmp_path):
  write(tmp_path, {"a/1.png": encode(grey(0)), "b/1.jpg": encode(grey(1, (9, 12)), "JPEG")})
  found = load_folder(tmp_path, (6, 7))
  assert found.image_shape == (6, 7) and found.inputs.shape == (2, 42)
  assert found.inputs.min() >= 0 and found.inputs.max() <= 1


def test_images_of_different_sizes_need_a_resolution(tmp_path):
  write(tmp_path, {"a/1.png": encode(grey(0)), "b/1.png": encode(grey(1, (4, 5)))})
  parts = ("a/1.png is 5 x 4", "b/1.png is 4 x 5", "--resolution=H,W")
  assert_fails(lambda: load_folder(tmp_path), *parts)


def test_an_images_size_is_that_after_it_is_turned(tmp_path):
  exif = Image.Exif()
  exif[0x0112] = 6  # A quarter turn.
  turned = encode(grey(1, (4, 5)), exif=exif)
  found = load_folder(write(tmp_path, {"a/1.png": encode(grey(0)), "b/1.png": turned}))
  assert found.image_shape == (5, 4)


def test_a_data_set_needs_two_classes_with_images(tmp_path):
  write(tmp_path, {"a/1.png": encode(grey(0))})
  assert_fails(lambda: load_folder(tmp_path), "one sub-folder only", "two or more")
  (tmp_path / "b").mkdir()
  assert_fails(lambda: load_folder(tmp_path), "no images in 1 sub-folder (b)")
  pool = write(tmp_path / "pool", {"1.png": encode(grey(0)), "2.png": encode(grey(1))})
  assert_fails(
    lambda: load_folder(pool), "no sub-folders of them", "one sub-folder of images a class"
  )
  assert_fails(lambda: load_folder(tmp_path / "none"), "none")


def test_a_broken_image_of_a_data_set_is_named(tmp_path):
  write(tmp_path, {"a/1.png": encode(grey(0)), "b/1.png": b"no image"})
  for resolution in (None, (5, 4)):
    parts = ("b/1.png", "no image of a known format")
    assert_fails(lambda resolution=resolution: load_folder(tmp_path, resolution), *parts)
