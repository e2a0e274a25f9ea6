"""Models in TensorFlow.js in a browser: the real one gives the logits of the NumPy backend."""

import numpy as np
import pytest
from javascript_at_hand import served, tfjs_at_hand
from layered import ARCHITECTURES, images_for, layered

from harness import registry
from harness.evaluation.exporting import export

COUNT = 100
ASK = """
async ([images, shape]) => {
  await tf.setBackend("cpu");
  const model = await tf.loadLayersModel("model.json");
  const logits = model.predict(tf.tensor(images, shape));
  return { backend: tf.getBackend(), logits: await logits.array() };
}
"""


@pytest.mark.parametrize("name", ["mlp", "cnn-grey", "cnn-first", "resnet-last", "odd"])
def test_the_real_one_gives_the_logits_of_the_network(chromium, name, tmp_path):
    library = tfjs_at_hand() / "dist" / "tf.min.js"
    assert name in ARCHITECTURES
    network, x = layered(name), images_for(name, COUNT)
    export(network, tmp_path / "model", "tfjs")
    context = chromium.new_context()
    with served(tmp_path / "model") as address:
        page = context.new_page()
        page.goto(f"{address}/")
        page.add_script_tag(path=library)
        said = page.evaluate(ASK, [x.reshape(-1).tolist(), list(x.shape)])
        context.close()
    expected = registry.builder("numpy").build(network, dtype="float64").logits(x)
    assert said["backend"] == "cpu"
    np.testing.assert_allclose(said["logits"], expected, rtol=0, atol=1e-5 * abs(expected).max())
