rule fetch_backbone:
    input:
        unless_made_of("fetch_backbone"),
    output:
        file="resources/backbones/{backbone}/{part}",
        fingerprint="resources/backbones/{backbone}/.{part}.fetch_backbone",
    log:
        "logs/backbones/{backbone}/fetch_backbone_{part}.log",
    wildcard_constraints:
        part=one_of({COMPILED, *(one.FILE_NAME for one in PLAN.backbones.values())}),
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("fetch_backbone"),
        source=lambda wildcards: backbone_source(**wildcards).request(),
    script:
        "../../scripts/fetch_backbone.py"


# Every extractor takes raw RGB bytes, however the network's training images were scaled.
rule make_extractor:
    input:
        unless_made_of("make_extractor"),
        network=network,
    output:
        extractor="results/backbones/{backbone}/extractor.tflite",
        fingerprint="results/backbones/{backbone}/.make_extractor",
    log:
        "logs/backbones/{backbone}/make_extractor.log",
    wildcard_constraints:
        backbone=backbones_that(lambda one: not one.belongs_to_dataset),
    localrule: True
    conda:
        environment
    params:
        fingerprint=fingerprint("make_extractor"),
        kind=lambda wildcards: PLAN.backbones[wildcards.backbone].KIND,
        checksum=lambda wildcards: PLAN.backbones[wildcards.backbone].source.checksum(),
        settings=lambda wildcards: PLAN.backbones[wildcards.backbone].settings(),
    script:
        "../../scripts/make_extractor.py"


# The extractor of a float network is made in two steps. `quantize` calibrates it on photos, so its
# output belongs to the dataset; this one does not.
rule make_float_extractor:
    input:
        unless_made_of("make_float_extractor"),
        network=network,
    output:
        extractor="results/backbones/{backbone}/float_extractor.tflite",
        fingerprint="results/backbones/{backbone}/.make_float_extractor",
    log:
        "logs/backbones/{backbone}/make_float_extractor.log",
    wildcard_constraints:
        backbone=backbones_that(lambda one: one.CALIBRATED),
    localrule: True
    conda:
        environment
    params:
        fingerprint=fingerprint("make_float_extractor"),
        kind=lambda wildcards: PLAN.backbones[wildcards.backbone].KIND,
        checksum=lambda wildcards: PLAN.backbones[wildcards.backbone].source.checksum(),
        settings=lambda wildcards: PLAN.backbones[wildcards.backbone].settings(),
    script:
        "../../scripts/make_extractor.py"


# The choice is kept when photos are added; a new one would mean embedding every photo again.
rule choose_calibration_photos:
    input:
        unless_made_of("choose_calibration_photos"),
        manifest=there("choose_calibration_photos", MANIFEST),
        unlabelled=there("choose_calibration_photos", UNLABELLED),
    output:
        photos=f"{BACKBONE_RESULTS}/calibration.tsv",
        fingerprint=f"{BACKBONE_RESULTS}/.choose_calibration_photos",
    log:
        f"{LOGS}/{{backbone}}/choose_calibration_photos.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("choose_calibration_photos"),
        photos=SETTINGS.calibration.photos,
    script:
        "../../scripts/choose_calibration_photos.py"


rule quantize:
    input:
        unless_made_of("quantize"),
        pictures=photos_for("quantize"),
        extractor=rules.make_float_extractor.output.extractor,
        photos=rules.choose_calibration_photos.output.photos,
        manifest=there("quantize", MANIFEST),
        unlabelled=there("quantize", UNLABELLED),
    output:
        extractor=f"{BACKBONE_RESULTS}/extractor.tflite",
        report=f"{BACKBONE_RESULTS}/quantization.json",
        fingerprint=f"{BACKBONE_RESULTS}/.quantize",
    log:
        f"{LOGS}/{{backbone}}/quantize.log",
    wildcard_constraints:
        backbone=backbones_that(lambda one: one.CALIBRATED),
    conda:
        "../envs/retrain.yaml"
    threads: 4
    params:
        fingerprint=fingerprint("quantize"),
        mean=lambda wildcards: PLAN.backbones[wildcards.backbone].mean,
        std=lambda wildcards: PLAN.backbones[wildcards.backbone].std,
        resize=SETTINGS.resize,
        allow_cpu_operators=SETTINGS.compiler.allow_cpu_operators,
    script:
        "../../scripts/quantize.py"


# A fine-tuned network is kept when photos are added, as a calibrated one is.
rule fine_tune:
    input:
        unless_made_of("fine_tune"),
        pictures=photos_for("fine_tune"),
        extractor=base_extractor(""),
        embeddings=base_embeddings("fine_tune"),
        manifest=there("fine_tune", MANIFEST),
    output:
        extractor=f"{BACKBONE_RESULTS}/extractor.tflite",
        report=f"{BACKBONE_RESULTS}/fine_tuning.json",
        tuned_on=f"{BACKBONE_RESULTS}/tuned_on.tsv",
        fingerprint=f"{BACKBONE_RESULTS}/.fine_tune",
    log:
        f"{LOGS}/{{backbone}}/fine_tune.log",
    wildcard_constraints:
        backbone=backbones_that(lambda one: one.FINE_TUNED),
    conda:
        environment
    threads: 8
    params:
        fingerprint=fingerprint("fine_tune"),
        layers=lambda wildcards: PLAN.backbones[wildcards.backbone].layers,
        seed=SETTINGS.seed,
        resize=SETTINGS.resize,
    script:
        "../../scripts/fine_tune.py"


# Kept like the network, whose number of layers it takes over.
rule fine_tune_folds:
    input:
        unless_made_of("fine_tune_folds"),
        pictures=photos_for("fine_tune_folds"),
        extractor=base_extractor(""),
        embeddings=base_embeddings("fine_tune_folds"),
        manifest=there("fine_tune_folds", MANIFEST),
        report=rules.fine_tune.output.report,
        tuned_on=rules.fine_tune.output.tuned_on,
    output:
        nested=f"{BACKBONE_RESULTS}/nested.npz",
        fingerprint=f"{BACKBONE_RESULTS}/.fine_tune_folds",
    log:
        f"{LOGS}/{{backbone}}/fine_tune_folds.log",
    wildcard_constraints:
        backbone=backbones_that(is_nested),
    conda:
        environment
    threads: 8
    params:
        fingerprint=fingerprint("fine_tune_folds"),
        seed=SETTINGS.seed,
        resize=SETTINGS.resize,
    script:
        "../../scripts/fine_tune_folds.py"


# In place of compiling: shapes and scales have not changed, so the instructions stay the same.
rule rewrite:
    input:
        unless_made_of("rewrite"),
        compiled=base_extractor("_edgetpu"),
        extractor=base_extractor(""),
        fine_tuned=rules.fine_tune.output.extractor,
    output:
        compiled=f"{BACKBONE_RESULTS}/extractor_edgetpu.tflite",
        fingerprint=f"{BACKBONE_RESULTS}/.rewrite",
    log:
        f"{LOGS}/{{backbone}}/rewrite.log",
    wildcard_constraints:
        backbone=backbones_that(lambda one: one.FINE_TUNED and not one.needs_compiler),
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("rewrite"),
    script:
        "../../scripts/rewrite.py"


rule fetch_compiler:
    output:
        folder=directory(COMPILER_FOLDER),
    log:
        "logs/fetch_compiler.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        sources=[one.model_dump() for one in SETTINGS.compiler.sources],
    script:
        "../../scripts/fetch_compiler.py"


rule take_compiled:
    input:
        unless_made_of("take_compiled"),
        compiled=compiled_network,
        extractor="results/{place}/{backbone}/extractor.tflite",
    output:
        compiled="results/{place}/{backbone}/extractor_edgetpu.tflite",
        fingerprint="results/{place}/{backbone}/.take_compiled",
    log:
        "logs/{place}/{backbone}/take_compiled.log",
    wildcard_constraints:
        backbone=backbones_that(
            lambda one: not one.needs_compiler and not one.FINE_TUNED
        ),
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("take_compiled"),
        checksum=lambda wildcards: PLAN.backbones[
            wildcards.backbone
        ].compiled.checksum(),
        mean=lambda wildcards: PLAN.backbones[wildcards.backbone].mean,
        std=lambda wildcards: PLAN.backbones[wildcards.backbone].std,
        allow_cpu_operators=SETTINGS.compiler.allow_cpu_operators,
    script:
        "../../scripts/take_compiled.py"


rule compile:
    input:
        unless_made_of("compile"),
        extractor="results/{place}/{backbone}/extractor.tflite",
        compiler=compiler_fetched(),
    output:
        compiled="results/{place}/{backbone}/extractor_edgetpu.tflite",
        printed="results/{place}/{backbone}/compilation.txt",
        report="results/{place}/{backbone}/compilation.json",
        fingerprint="results/{place}/{backbone}/.compile",
    log:
        "logs/{place}/{backbone}/compile.log",
    wildcard_constraints:
        backbone=backbones_that(lambda one: one.needs_compiler),
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("compile"),
        program=PLAN.compiler,
        timeout=SETTINGS.compiler.timeout,
        min_runtime_version=SETTINGS.compiler.min_runtime_version,
        allow_cpu_operators=SETTINGS.compiler.allow_cpu_operators,
    script:
        "../../scripts/compile.py"
