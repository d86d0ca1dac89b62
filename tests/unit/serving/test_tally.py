"""What process 1 says of its pod."""

from modelyard.serving.tally import Tally


def test_the_variant_that_serves_is_a_metric_with_its_name_as_label() -> None:
    tally = Tally()
    tally.info = {"modelyard_variant_info": {"variant": "onnx-int8", "version": "7"}}
    lines = tally.text({}).splitlines()
    assert 'modelyard_variant_info{variant="onnx-int8",version="7"} 1' in lines
    assert "# TYPE modelyard_variant_info gauge" in lines
