rule fetch_dataset:
    input:
        unless_made_of("fetch_dataset"),
    output:
        archive=f"{DATASET_RESOURCES}/archive",
        fingerprint=f"{DATASET_RESOURCES}/.fetch_dataset",
    log:
        f"{LOGS}/fetch_dataset.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("fetch_dataset"),
        urls=DATASET.urls,
        sha256=DATASET.sha256,
    script:
        "../../scripts/fetch_dataset.py"


rule extract_dataset:
    input:
        unless_made_of("extract_dataset"),
        archive=archive,
    output:
        photos=directory("resources/datasets/{packed}/photos"),
        fingerprint="resources/datasets/{packed}/.extract_dataset",
    log:
        "logs/{packed}/extract_dataset.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("extract_dataset"),
        sha256=lambda wildcards: PLAN.packed[wildcards.packed].sha256,
        # A function of the input, so that a new address of the same file does not unpack it again.
        url=lambda wildcards, input: next(
            iter(PLAN.packed[wildcards.packed].urls), None
        ),
    script:
        "../../scripts/extract_dataset.py"


rule index:
    input:
        unless_made_of("index"),
        photos=photos_for("index"),
    output:
        manifest=f"{DATASET_RESULTS}/manifest.tsv",
        unlabelled=UNLABELLED,
        not_photos=f"{DATASET_RESULTS}/not_photos.tsv",
        corrections=f"{DATASET_RESULTS}/applied_corrections.tsv",
        shards=expand(f"{DATASET_RESULTS}/shards/{{shard}}.tsv", shard=SHARDS),
        # Identifies the photos for jobs on other machines, which do not list them.
        digests=f"{DATASET_RESULTS}/digests.json",
        fingerprint=f"{DATASET_RESULTS}/.index",
    log:
        f"{LOGS}/index.log",
    localrule: True
    conda:
        "../envs/retrain.yaml"
    params:
        fingerprint=fingerprint("index"),
        # A function, because Snakemake would take braces in a path for wildcards.
        folder=lambda wildcards: DATASET.folder,
        unlabelled=lambda wildcards: [
            one.folder for one in PLAN.unlabelled if one.folder
        ],
        is_packed=DATASET.is_packed,
        # Lets the job notice photos that changed while the run started.
        digests=vars(PLAN.fingerprints.photos),
        split=SETTINGS.split.model_dump(),
        max_skipped=SETTINGS.max_skipped,
        corrections=lambda wildcards: PLAN.corrections,
    script:
        "../../scripts/index.py"
