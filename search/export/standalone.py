"""Classifies an image with an exported model, without dynafront: needs numpy, pillow and onnxruntime."""

import json
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
        image.draft(
            None, (2 * max(height, width), 2 * max(height, width))
        )  # decode a large JPEG faster
        image = self.eight_bit(ImageOps.exif_transpose(image))
        image = image.convert("L" if self.task["channels"] == 1 else "RGB")
        if image.size != (width, height):
            image = self.fitted(image, (width, height))
        array = np.asarray(image, dtype=np.float32) / 255
        array = array[None] if self.task["channels"] == 1 else array.transpose(2, 0, 1)
        return np.ascontiguousarray(array)[None]

    def eight_bit(self, image):
        """The image with 8 bits a channel and nothing transparent."""
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
        if self.preprocessing["resize"] == "squash":
            return image.resize(size, Image.Resampling.BILINEAR)
        if self.preprocessing["resize"] == "pad":
            return ImageOps.pad(image, size, Image.Resampling.BILINEAR)
        width, height = size
        scale = min(image.width / width, image.height / height)
        left, top = (image.width - scale * width) / 2, (image.height - scale * height) / 2
        box = (left, top, left + scale * width, top + scale * height)
        return image.resize(size, Image.Resampling.BILINEAR, box=box)

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
