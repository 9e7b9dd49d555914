"""Classifies an image with an exported model, without dynafront: needs numpy, pillow and onnxruntime."""

import json
import math
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


class Classifier:
    """An exported model."""

    def __init__(self, folder):
        description = json.loads((Path(folder) / "model.json").read_text(encoding="utf-8"))
        self.classes, self.task = description["classes"], description["task"]
        self.preprocessing = description["preprocessing"]
        self.session = onnxruntime.InferenceSession(
            str(Path(folder) / "model.onnx"), providers=["CPUExecutionProvider"]
        )

    def pixels(self, file):
        """float32 pixels in [0, 1] of shape (1, channels, height, width)."""
        height, width = self.task["height"], self.task["width"]
        image = Image.open(file)
        twice = 2 * math.ceil(max(height, width) / self.preprocessing.get("crop_pct", 1.0))
        image.draft(None, (twice, twice))  # decode a large JPEG faster
        image = self.eight_bit(ImageOps.exif_transpose(image))
        image = image.convert("L" if self.task["channels"] == 1 else "RGB")
        image = self.fitted(image, (width, height))
        array = np.asarray(image, dtype=np.float32) / 255
        array = array[None] if self.task["channels"] == 1 else array.transpose(2, 0, 1)
        return np.ascontiguousarray(array)[None]

    def eight_bit(self, image):
        """The image with 8 bits a channel and nothing transparent."""
        if image.mode == "F":
            raise ValueError("floating-point pixels: save it with 8 or 16 bits a channel")
        if image.mode.startswith("I"):  # gray, more than 8 bits
            bits = self.preprocessing["bits"]
            deep = np.asarray(image).clip(0, 2**bits - 1)
            return Image.fromarray((deep >> (bits - 8)).astype(np.uint8))
        if "A" in image.mode or "transparency" in image.info:
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, self.preprocessing["background"])
            return Image.alpha_composite(white, image)
        return image.convert("RGB") if image.mode == "P" else image

    def fitted(self, image, size):
        """The image at the size (width, height) that the network takes."""
        how, (width, height) = self.preprocessing, size
        share = how.get("crop_pct", 1.0)
        kind = Image.Resampling[how.get("interpolation", "bilinear").upper()]
        if image.size == size and share == 1:
            return image
        if how["resize"] == "pad":
            frame = round(width / share), round(height / share)
            left, top = (frame[0] - width) // 2, (frame[1] - height) // 2
            padded = ImageOps.pad(image, frame, kind)
            return padded.crop((left, top, left + width, top + height))
        across, down = image.width / width, image.height / height
        if how["resize"] == "crop":
            across = down = min(across, down)
        across = min(image.width, across * share * width)
        down = min(image.height, down * share * height)
        left, top = (image.width - across) / 2, (image.height - down) / 2
        return image.resize(size, kind, box=(left, top, left + across, top + down))

    def predict(self, file):
        """The class of an image file, and its probability."""
        logits = self.session.run(None, {"pixels": self.pixels(file)})[0][0]
        probabilities = np.exp(logits - logits.max())
        probabilities /= probabilities.sum()
        best = int(probabilities.argmax())
        return self.classes[best], float(probabilities[best])


if __name__ == "__main__":
    classifier = Classifier("exported")
    print(classifier.predict("image.png"))
