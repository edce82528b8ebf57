rule fetch_backbone:
    output:
        file=f"{BACKBONE_RESOURCES}/{{part}}",
    log:
        f"logs/backbones/{BACKBONE.name}/fetch_backbone_{{part}}.log",
    conda:
        "../envs/retrain.yaml"
    params:
        source=lambda wildcards: vars(getattr(BACKBONE, Path(wildcards.part).stem)),
    script:
        "../../scripts/fetch_backbone.py"


rule truncate:
    input:
        frozen_graph=lambda wildcards: backbone_file("frozen_graph.pb"),
    output:
        extractor=f"resources/extractors/{BACKBONE.name}.tflite",
    log:
        f"logs/backbones/{BACKBONE.name}/truncate.log",
    conda:
        "../envs/tensorflow.yaml"
    params:
        input_array=BACKBONE.input,
        output_array=BACKBONE.tensor,
        mean=BACKBONE.mean,
        std=BACKBONE.std,
    script:
        "../../scripts/truncate.py"


rule compile:
    input:
        extractor=extractor(""),
    output:
        compiled=f"resources/extractors/{BACKBONE.name}_edgetpu.tflite",
        report=f"resources/extractors/{BACKBONE.name}_edgetpu.txt",
    log:
        f"logs/backbones/{BACKBONE.name}/compile.log",
    conda:
        "../envs/retrain.yaml"
    script:
        "../../scripts/compile.py"
