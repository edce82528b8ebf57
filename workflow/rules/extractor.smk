rule fetch_backbone:
    output:
        file=f"{BACKBONE_RESOURCES}/{{part}}",
    log:
        f"logs/backbones/{BACKBONE.name}/fetch_backbone_{{part}}.log",
    conda:
        "../envs/retrain.yaml"
    params:
        source=lambda wildcards: vars(backbone_source(wildcards.part)),
    script:
        "../../scripts/fetch_backbone.py"


# Every extractor takes raw RGB bytes, whatever the network was trained with; one that has to be
# calibrated is a float one yet.
rule make_extractor:
    input:
        network=backbone_file(BACKBONE.FILE_NAME),
    output:
        extractor=MADE_EXTRACTOR,
    log:
        f"logs/backbones/{BACKBONE.name}/make_extractor.log",
    conda:
        f"../envs/{BACKBONE.ENVIRONMENT}.yaml"
    params:
        kind=BACKBONE.KIND,
        checksum=BACKBONE.source.checksum(),
        settings=BACKBONE.settings(),
    script:
        "../../scripts/make_extractor.py"


if BACKBONE.CALIBRATED:

    localrules:
        choose_calibration_photos,

    # Kept when photos are added, so that not all are embedded anew.
    rule choose_calibration_photos:
        input:
            manifest=manifest_to_calibrate,
        output:
            photos=f"{EXTRACTORS}/calibration.tsv",
        log:
            f"{EXTRACTOR_LOGS}/choose_calibration_photos.log",
        conda:
            "../envs/retrain.yaml"
        params:
            photos=config["calibration"]["photos"],
        script:
            "../../scripts/choose_calibration_photos.py"

    rule quantize:
        input:
            extractor=rules.make_extractor.output.extractor,
            photos=rules.choose_calibration_photos.output.photos,
            manifest=kept_manifest,
        output:
            extractor=f"{EXTRACTORS}/extractor.tflite",
            report=f"{EXTRACTORS}/quantization.json",
        log:
            f"{EXTRACTOR_LOGS}/quantize.log",
        conda:
            "../envs/retrain.yaml"
        threads: 4
        params:
            mean=BACKBONE.mean,
            std=BACKBONE.std,
            resize=config["resize"],
            allow_cpu_operators=config["compiler"]["allow_cpu_operators"],
        script:
            "../../scripts/quantize.py"


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


if BACKBONE.compiled:

    localrules:
        take_compiled,

    rule take_compiled:
        input:
            compiled=backbone_file(COMPILED_NAME),
            extractor=f"{EXTRACTORS}/extractor.tflite",
        output:
            compiled=f"{EXTRACTORS}/extractor_edgetpu.tflite",
        log:
            f"{EXTRACTOR_LOGS}/take_compiled.log",
        conda:
            "../envs/retrain.yaml"
        params:
            checksum=BACKBONE.compiled.checksum(),
            mean=BACKBONE.mean,
            std=BACKBONE.std,
            allow_cpu_operators=config["compiler"]["allow_cpu_operators"],
        script:
            "../../scripts/take_compiled.py"

else:

    localrules:
        compile,

    rule compile:
        input:
            extractor=f"{EXTRACTORS}/extractor.tflite",
            compiler=compiler_fetched(),
        output:
            compiled=f"{EXTRACTORS}/extractor_edgetpu.tflite",
            printed=f"{EXTRACTORS}/compilation.txt",
            report=f"{EXTRACTORS}/compilation.json",
        log:
            f"{EXTRACTOR_LOGS}/compile.log",
        conda:
            "../envs/retrain.yaml"
        params:
            program=COMPILER,
            timeout=config["compiler"]["timeout"],
            min_runtime_version=config["compiler"].get("min_runtime_version"),
            allow_cpu_operators=config["compiler"]["allow_cpu_operators"],
        script:
            "../../scripts/compile.py"
