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


# Where the user names a file, no rule may claim to make it.
if not BACKBONE.extractor:

    rule truncate:
        input:
            network=lambda wildcards: network(),
        output:
            extractor=f"{EXTRACTORS}/extractor.tflite",
        log:
            f"logs/backbones/{BACKBONE.name}/truncate.log",
        conda:
            "../envs/tensorflow.yaml"
        params:
            kind="frozen_graph" if BACKBONE.frozen_graph else "tflite",
            tensor=BACKBONE.tensor,
            input=BACKBONE.input,
            mean=BACKBONE.mean,
            std=BACKBONE.std,
            width=BACKBONE.width,
        script:
            "../../scripts/truncate.py"


rule fetch_compiler:
    output:
        folder=directory("resources/edgetpu_compiler"),
    log:
        "logs/fetch_compiler.log",
    conda:
        "../envs/retrain.yaml"
    params:
        sources=config["compiler"]["sources"],
    script:
        "../../scripts/fetch_compiler.py"


if not BACKBONE.compiled:

    rule compile:
        input:
            extractor=lambda wildcards: extractor(""),
            compiler=compiler_fetched(),
        output:
            compiled=f"{EXTRACTORS}/extractor_edgetpu.tflite",
            printed=f"{EXTRACTORS}/compilation.txt",
            report=f"{EXTRACTORS}/compilation.json",
        log:
            f"logs/backbones/{BACKBONE.name}/compile.log",
        conda:
            "../envs/retrain.yaml"
        params:
            program=lambda wildcards: compiler_program(),
            timeout=config["compiler"]["timeout"],
            min_runtime_version=config["compiler"].get("min_runtime_version"),
            allow_cpu_operators=config["compiler"]["allow_cpu_operators"],
        script:
            "../../scripts/compile.py"
