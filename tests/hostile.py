"""Pictures as strangers send them: odd but sound ones, broken ones and bombs, all drawn here.

`PICTURES` have a result and a known size; `BROKEN` have a known error code. Each is made when asked for.
"""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

WIDTH_PX, HEIGHT_PX = 60, 40
QUADRANTS = {"top left": (220, 40, 30), "top right": (30, 200, 60), "bottom left": (40, 60, 220), "bottom right": (230, 220, 40)}
ORIENTATION = 0x0112


@dataclass(frozen=True)
class Sound:
    """A file that must get a result, and its size in original pixels."""

    name: str
    make: Callable[[], bytes]
    size: tuple[int, int] = (WIDTH_PX, HEIGHT_PX)


@dataclass(frozen=True)
class Broken:
    """A file that must get an error, and the error's code."""

    name: str
    make: Callable[[], bytes]
    code: str


def drawn(width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> Image.Image:
    """Four quadrants of different colours: any turn, mirror, crop or swap of channels shows."""
    pixels = np.zeros((height_px, width_px, 3), np.uint8)
    halves = (slice(None, (height_px + 1) // 2), slice((height_px + 1) // 2, None))
    columns = (slice(None, (width_px + 1) // 2), slice((width_px + 1) // 2, None))
    for colour, (rows, cols) in zip(QUADRANTS.values(), ((r, c) for r in halves for c in columns), strict=True):
        pixels[rows, cols] = colour
    return Image.fromarray(pixels)


def encoded(image: Image.Image, file_format: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def oriented(orientation: int, file_format: str = "JPEG", width_px: int = WIDTH_PX, height_px: int = HEIGHT_PX) -> bytes:
    """The drawn picture as stored, with an EXIF orientation on top."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    options = {"quality": 95, "subsampling": 0} if file_format == "JPEG" else {"lossless": True} if file_format == "WEBP" else {}
    return encoded(drawn(width_px, height_px), file_format, exif=exif, **options)


def jpeg(**options: object) -> bytes:
    return encoded(drawn(), "JPEG", **({"quality": 95, "subsampling": 0} | options))


def png(image: Image.Image | None = None, **options: object) -> bytes:
    return encoded(image or drawn(), "PNG", **options)


def png_chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_with(chunk: bytes) -> bytes:
    """A sound PNG with one more chunk right behind its header."""
    data = png()
    return data[:33] + chunk + data[33:]


def png_of_size(width_px: int, height_px: int) -> bytes:
    """A few bytes that claim to be a PNG of this size."""
    header = struct.pack(">IIBBBBB", width_px, height_px, 8, 2, 0, 0, 0)
    body = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", body) + png_chunk(b"IEND", b"")


def interlaced_png() -> bytes:
    """Adam7, which Pillow reads and does not write."""
    pixels = np.asarray(drawn())
    passes = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
    rows = [b"\0" + row.tobytes() for y, x, dy, dx in passes for row in pixels[y::dy, x::dx]]
    header = struct.pack(">IIBBBBB", WIDTH_PX, HEIGHT_PX, 8, 2, 0, 0, 1)
    body = png_chunk(b"IDAT", zlib.compress(b"".join(rows)))
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + body + png_chunk(b"IEND", b"")


def jpeg_with_exif(block: bytes) -> bytes:
    """A sound JPEG whose APP1 segment holds these bytes."""
    data = jpeg()
    return data[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 8) + b"Exif\0\0" + block + data[2:]


def jpeg_of_size(width_px: int, height_px: int, precision_bits: int = 8) -> bytes:
    """A sound JPEG whose header claims another size or sample precision."""
    data = bytearray(jpeg())
    at = data.index(b"\xff\xc0") + 4
    data[at : at + 5] = struct.pack(">BHH", precision_bits, height_px, width_px)
    return bytes(data)


def jpeg_of_scans(scans: int) -> bytes:
    """A progressive picture whose last scan, a few bytes, comes again and again: the decoder goes over all pixels each time."""
    data = jpeg(progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    return data[:-2] + last * (scans - data.count(b"\xff\xda")) + data[-2:]


def adobe_cmyk_jpeg() -> bytes:
    """CMYK as Photoshop writes it: inverted, and said so in an APP14 segment."""
    return encoded(drawn().convert("CMYK"), "JPEG", quality=95, subsampling=0)


def unmarked_cmyk_jpeg() -> bytes:
    """The same without Adobe's segment; browsers take such a file to be inverted all the same."""
    data = adobe_cmyk_jpeg()
    at = data.index(b"\xff\xee")
    return data[:at] + data[at + 2 + struct.unpack(">H", data[at + 2 : at + 4])[0] :]


def grey16(low: int = 0, high: int = 65535) -> Image.Image:
    """A ramp from left to right over 16 bits."""
    ramp: NDArray[np.uint16] = np.linspace(low, high, WIDTH_PX).round().astype(np.uint16)
    return Image.fromarray(np.tile(ramp, (HEIGHT_PX, 1)))


def float_tiff(values: NDArray[np.float32] | None = None) -> bytes:
    ramp = np.tile(np.linspace(-1, 3, WIDTH_PX, dtype=np.float32), (HEIGHT_PX, 1))
    return encoded(Image.fromarray(ramp if values is None else values), "TIFF")


def animated(file_format: str) -> bytes:
    """The drawn picture, then two frames of noise."""
    noise = [Image.effect_noise((WIDTH_PX, HEIGHT_PX), 80).convert("RGB") for _ in range(2)]
    options = {"lossless": True} if file_format == "WEBP" else {}
    return encoded(drawn(), file_format, save_all=True, append_images=noise, duration=100, loop=0, **options)


def cut_out() -> Image.Image:
    """RGBA: the drawn picture, opaque on the left, transparent black on the right."""
    image = drawn().convert("RGBA")
    image.paste((0, 0, 0, 0), (WIDTH_PX // 2, 0, WIDTH_PX, HEIGHT_PX))
    return image


def palette_with_transparency() -> bytes:
    image = cut_out().convert("RGB").quantize(16)
    see_through = image.getpixel((WIDTH_PX - 1, 0))
    return png(image, transparency=bytes(0 if index == see_through else 255 for index in range(16)))


def bmp_rle8() -> bytes:
    """8-bit run-length encoding, bottom row first: every row one run."""
    rows = b"".join(bytes((WIDTH_PX, row % 4, 0, 0)) for row in range(HEIGHT_PX)) + b"\0\x01"
    palette = b"".join(bytes((blue, green, red, 0)) for red, green, blue in QUADRANTS.values()) + bytes(4 * 252)
    info = struct.pack("<IiiHHIIiiII", 40, WIDTH_PX, HEIGHT_PX, 1, 8, 1, len(rows), 2835, 2835, 256, 0)
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(rows), 0, 0, start) + info + palette + rows


def bmp_top_down() -> bytes:
    """A negative height: the rows are stored from the top."""
    data = bytearray(encoded(drawn().transpose(Image.Transpose.FLIP_TOP_BOTTOM), "BMP"))
    data[22:26] = struct.pack("<i", -HEIGHT_PX)
    return bytes(data)


def text_bomb() -> bytes:
    """A PNG of a few hundred kB whose comment unpacks to 200 MB."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(200)) + packer.flush()
    return png_with(png_chunk(b"zTXt", b"Comment\0\0" + packed))


def gif_of_size(width_px: int, height_px: int) -> bytes:
    data = bytearray(encoded(drawn(), "GIF"))
    data[6:10] = struct.pack("<HH", width_px, height_px)
    return bytes(data)


def webp_of_size(width_px: int, height_px: int) -> bytes:
    """An animated WebP whose canvas claims this size."""
    data = bytearray(animated("WEBP"))
    data[24:30] = (width_px - 1).to_bytes(3, "little") + (height_px - 1).to_bytes(3, "little")
    return bytes(data)


def tiff(tags: dict[int, tuple[int, int]], payload: bytes = b"") -> bytes:
    """A little-endian TIFF: tags as {tag: (field type, value)}, every count 1, `payload` right behind the directory."""
    entries = [struct.pack("<HHII", tag, kind, 1, value) for tag, (kind, value) in sorted(tags.items())]
    return b"II*\0" + struct.pack("<IH", 8, len(entries)) + b"".join(entries) + bytes(4) + payload


def tiff_of_size(width_px: int, height_px: int, **more: tuple[int, int]) -> bytes:
    """Uncompressed grey, one strip of 64 bytes: a directory that promises far more than there is."""
    tags = {256: (4, width_px), 257: (4, height_px), 258: (3, 8), 259: (3, 1), 262: (3, 1), 277: (3, 1), 278: (4, height_px)}
    tags |= {273: (4, 8 + 2 + 12 * 9 + 4), 279: (4, 64)} | {int(tag.removeprefix("tag")): value for tag, value in more.items()}
    return tiff(tags, bytes(64))


def tiff_of_huge_tiles(side_px: int = 30_000) -> bytes:
    """A picture of 32 x 32 pixels in one deflated tile of 30,000 x 30,000: the header looks harmless, the tile is not."""
    packed = zlib.compress(bytes(1 << 20))
    tags = {256: (4, 32), 257: (4, 32), 258: (3, 8), 259: (3, 8), 262: (3, 1), 277: (3, 1), 322: (4, side_px), 323: (4, side_px)}
    return tiff(tags | {324: (4, 8 + 2 + 12 * 10 + 4), 325: (4, len(packed))}, packed)


def _half(make: Callable[[], bytes]) -> Callable[[], bytes]:
    def halved() -> bytes:
        data = make()
        return data[: len(data) // 2]

    return halved


def _noise(file_format: str, **options: object) -> Callable[[], bytes]:
    """A picture without runs, so that half of its file is about half of its pixels."""
    pixels = np.random.default_rng(1).integers(0, 255, (80, 80, 3), dtype=np.uint8)
    return lambda: encoded(Image.fromarray(pixels), file_format, **options)


def _srgb() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


PICTURES = (
    Sound("baseline.jpg", jpeg),
    Sound("progressive.jpeg", lambda: jpeg(progressive=True)),
    Sound("hundred-scans.jpg", lambda: jpeg_of_scans(100)),
    Sound("film-behind.jpg", lambda: jpeg(progressive=True) + b"\xff\xda\x00\x08" * 1000),
    Sound("grey.jpg", lambda: encoded(drawn().convert("L"), "JPEG")),
    Sound("cmyk-adobe.jpg", adobe_cmyk_jpeg),
    Sound("cmyk-unmarked.jpg", unmarked_cmyk_jpeg),
    *(
        Sound(f"exif-{turn}.{ending}", lambda turn=turn, kind=kind: oriented(turn, kind), (60, 40) if turn < 5 else (40, 60))
        for kind, ending in (("JPEG", "jpg"), ("PNG", "png"), ("WEBP", "webp"), ("TIFF", "tif"))
        for turn in range(1, 9)
    ),
    Sound("two-views.mpo", lambda: encoded(drawn(), "MPO", save_all=True, append_images=[drawn()], quality=95)),
    Sound("damaged-exif.jpg", lambda: jpeg_with_exif(b"II*\0" + b"\xff" * 40)),
    Sound("no-exif-at-all.jpg", lambda: jpeg_with_exif(b"what is this")),
    Sound("damaged-exif.png", lambda: png_with(png_chunk(b"eXIf", b"\0\1\2\3"))),
    Sound("damaged-icc.jpg", lambda: jpeg(icc_profile=b"\0" * 200)),
    Sound("damaged-icc.png", lambda: png_with(png_chunk(b"iCCP", b"icc\0\0not deflated"))),
    Sound("srgb.jpg", lambda: jpeg(icc_profile=_srgb())),
    Sound("picture-and-archive.jpg", lambda: jpeg() + b"PK\x03\x04" + bytes(500)),
    Sound("a-png-in-truth.jpg", png),
    Sound("no ending at all", png),
    Sound("interlaced.png", interlaced_png),
    Sound("grey16.png", lambda: png(grey16())),
    Sound("grey16.tif", lambda: encoded(grey16(), "TIFF")),
    Sound("grey16-big-endian.tif", lambda: encoded(Image.fromarray(np.asarray(grey16()).astype(">u2")), "TIFF")),
    Sound("one-bit.png", lambda: png(drawn().convert("1"))),
    Sound("one-bit-fax.tiff", lambda: encoded(drawn().convert("1"), "TIFF", compression="group4")),
    Sound("palette.png", palette_with_transparency),
    Sound("rgba.png", lambda: png(cut_out())),
    Sound("la.png", lambda: png(cut_out().convert("LA"))),
    Sound("keyed.png", lambda: png(drawn(), transparency=QUADRANTS["top right"])),
    Sound("rgba.webp", lambda: encoded(cut_out(), "WEBP", lossless=True)),
    Sound("rgba.tif", lambda: encoded(cut_out(), "TIFF")),
    Sound("see-through.gif", lambda: encoded(cut_out(), "GIF")),
    Sound("animated.gif", lambda: animated("GIF")),
    Sound("animated.webp", lambda: animated("WEBP")),
    Sound("animated.png", lambda: animated("PNG")),
    Sound("float.tif", float_tiff),
    Sound("cmyk.tif", lambda: encoded(drawn().convert("CMYK"), "TIFF")),
    Sound("pages.tif", lambda: encoded(drawn(), "TIFF", save_all=True, append_images=[drawn(9, 9)])),
    Sound("lzw.tif", lambda: encoded(drawn(), "TIFF", compression="tiff_lzw")),
    Sound("jpeg-inside.tif", lambda: encoded(drawn(), "TIFF", compression="jpeg")),
    Sound("plain.bmp", lambda: encoded(drawn(), "BMP")),
    Sound("palette.bmp", lambda: encoded(drawn().quantize(16), "BMP")),
    Sound("one-bit.bmp", lambda: encoded(drawn().convert("1"), "BMP")),
    Sound("rle.bmp", bmp_rle8),
    Sound("top-down.bmp", bmp_top_down),
    Sound("one-pixel.png", lambda: png(drawn(1, 1)), (1, 1)),
    Sound("tall.png", lambda: png(drawn(1, 5000)), (1, 5000)),
    Sound("wide.jpg", lambda: encoded(drawn(5000, 1), "JPEG"), (5000, 1)),
)

BROKEN = (
    Broken("nothing.jpg", bytes, "empty"),
    Broken("notes.jpg", lambda: b"Dear all,\nthis is not a picture.\n" * 20, "unsupported_format"),
    Broken("drawing.svg", lambda: b'<svg xmlns="http://www.w3.org/2000/svg"><rect/></svg>', "unsupported_format"),
    Broken("page.html", lambda: b"<!doctype html><title>x</title><img src=x onerror=alert(1)>", "unsupported_format"),
    Broken("paper.pdf", lambda: b"%PDF-1.7\n1 0 obj <</Type /Catalog>> endobj\n%%EOF\n", "unsupported_format"),
    Broken("zeros.png", lambda: bytes(5000), "unsupported_format"),
    Broken("icon.ico", lambda: encoded(drawn(16, 16), "ICO"), "unsupported_format"),
    Broken("three-bytes.jpg", lambda: b"\xff\xd8\xff", "decode_failed"),
    Broken("signature-only.png", lambda: b"\x89PNG\r\n\x1a\n", "decode_failed"),
    Broken("half.jpg", _half(_noise("JPEG", quality=95)), "decode_failed"),
    Broken("half-progressive.jpg", _half(_noise("JPEG", quality=95, progressive=True)), "decode_failed"),
    Broken("scan-bomb.jpg", lambda: jpeg_of_scans(101), "decode_failed"),
    Broken("half.png", _half(_noise("PNG")), "decode_failed"),
    Broken("half.webp", _half(_noise("WEBP", lossless=True)), "decode_failed"),
    Broken("half.gif", _half(_noise("GIF")), "decode_failed"),
    Broken("half.tif", _half(_noise("TIFF")), "decode_failed"),
    Broken("half-lzw.tif", _half(_noise("TIFF", compression="tiff_lzw")), "decode_failed"),
    Broken("half.bmp", _half(_noise("BMP")), "decode_failed"),
    Broken("twelve-bit.jpg", lambda: jpeg_of_size(WIDTH_PX, HEIGHT_PX, precision_bits=12), "decode_failed"),
    Broken("bad-checksum.png", lambda: png_with(png_chunk(b"IDAT", b"no")[:-1] + b"!"), "decode_failed"),
    Broken("text-bomb.png", text_bomb, "decode_failed"),
    Broken("bomb.png", lambda: png_of_size(30_000, 30_000), "too_large"),
    Broken("bomb.jpg", lambda: jpeg_of_size(65_000, 65_000), "too_large"),
    Broken("bomb.gif", lambda: gif_of_size(65_535, 65_535), "too_large"),
    Broken("bomb.webp", lambda: webp_of_size(16_384, 16_384), "too_large"),
    Broken("bomb.tif", lambda: tiff_of_size(100_000, 100_000), "too_large"),
    Broken("just-over.png", lambda: png_of_size(10_001, 8_000), "too_large"),
    Broken("promises.tif", lambda: tiff_of_size(8_000, 8_000), "decode_failed"),
    Broken("huge-tiles.tif", tiff_of_huge_tiles, "too_large"),
)
