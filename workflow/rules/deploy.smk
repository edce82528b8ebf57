from edgetpu_retrain.deploy.bundle.make import file_names
from edgetpu_retrain.deploy.frigate import FILE_NAMES
from edgetpu_retrain.deploy.stored_embeddings import ClassMeans, StoredEmbeddings

RUN = PLAN.fingerprints.model(**MODEL)
# What learn.py needs in the bundle, with and without the embeddings.
MEMORY = {True: StoredEmbeddings.FILE_NAME, False: ClassMeans.FILE_NAME}


rule deliver:
    input:
        unless_made_of("deliver"),
        model=configured(f"{RESULTS}/retrained_model.tflite"),
        label_map=configured(rules.train.output.label_map),
        report=configured(rules.report.output.page),
        picture=picture(),
        # Whenever the photos are indexed, this makes missing intermediate files, too.
        manifest=MANIFEST,
    output:
        model="retrained_model.tflite",
        label_map="label_map.txt",
        report="report.html",
        record="results/.delivered/cpu.json",
        fingerprint="results/.deliver",
    log:
        f"{LOGS}/deliver.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("deliver"),
        run=RUN,
    script:
        "../../scripts/deliver.py"


rule deliver_edgetpu:
    input:
        unless_made_of("deliver_edgetpu"),
        twin=rules.deliver.output.model,
        model=configured(f"{RESULTS}/retrained_model_edgetpu.tflite"),
    output:
        model="retrained_model_edgetpu.tflite",
        record="results/.delivered/edgetpu.json",
        fingerprint="results/.deliver_edgetpu",
    log:
        f"{LOGS}/deliver_edgetpu.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("deliver_edgetpu"),
        run=RUN,
    script:
        "../../scripts/deliver_edgetpu.py"


# The files are listed one by one, so that files of the user's own in the folder stay.
rule bundle:
    input:
        unless_made_of("bundle"),
        photos=photos_for("bundle"),
        delivered=rules.deliver.output.model,
        models=[
            configured(f"{RESULTS}/retrained_model{twin}.tflite") for twin in twins()
        ],
        label_map=configured(rules.train.output.label_map),
        manifest=there("bundle", MANIFEST),
        embeddings=[
            configured(f"{BACKBONE_RESULTS}/embeddings/{shard}.npz")
            for shard in SHARDS
        ],
        head=configured(rules.train.output.head),
        out_of_fold=configured(rules.train.output.out_of_fold),
    output:
        files=[
            f"bundle/{name}"
            for name in file_names(
                compiled=len(twins()) > 1, memory=MEMORY[SETTINGS.bundle.embeddings]
            )
        ],
        archive="bundle.zip",
        record="results/.delivered/bundle.json",
        fingerprint="results/.bundle",
    log:
        f"{LOGS}/bundle.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("bundle"),
        run=RUN,
        training=PLAN.recipes[PLAN.recipe],
        seed=PLAN.fingerprints.seed(PLAN.recipe),
        none=bool(SETTINGS.none),
        split=SETTINGS.split.model_dump(include={"validation", "test"}),
        with_embeddings=SETTINGS.bundle.embeddings,
    script:
        "../../scripts/bundle.py"


rule frigate:
    input:
        unless_made_of("frigate"),
        delivered=rules.deliver.output.model,
        model=configured(f"{RESULTS}/retrained_model.tflite"),
        label_map=configured(rules.train.output.label_map),
    output:
        files=[f"frigate/{FRIGATE}/{name}" for name in FILE_NAMES],
        record="results/.delivered/frigate.json",
        fingerprint="results/.frigate",
    log:
        f"{LOGS}/frigate.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("frigate"),
        run=RUN,
        name=FRIGATE,
    script:
        "../../scripts/frigate.py"
