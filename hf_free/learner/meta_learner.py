"""`MetaLearner`, the network that is trained, published and adapted.

How it is saved is in `hf_free.learner.persistence`.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from hf_free.backbones.model_args import ModelArgs
from hf_free.config.init_from import InitFrom
from hf_free.config.sections import LearnerConfig
from hf_free.data.decoding import WHITE, Color, parse_color
from hf_free.data.images import Images, as_batch
from hf_free.errors import LearnerError
from hf_free.learner.backbone import pretrained_timm, timm_settings
from hf_free.learner.backbone_kinds import Access
from hf_free.learner.classifier import FewShotClassifier
from hf_free.learner.embedder import Embedder
from hf_free.learner.embedding import Embedding
from hf_free.learner.format import CLASSIFIER_CONFIG, FORMAT_VERSION, load_strictly
from hf_free.learner.inputs import InputSettings
from hf_free.learner.labels import plain_labels
from hf_free.learner.one_step import replaced_in_one_step
from hf_free.learner.persistence import (
    Origin,
    bytes_of,
    fetch_files,
    find_learner,
    full_record,
    given_source,
    rebuild,
    saved_names,
    write_files,
)
from hf_free.learner.pooled_files import copy_files, files_to_bring
from hf_free.provenance.learner_record import LearnerRecord
from hf_free.runtime.device import choose_device
from hf_free.runtime.given import check_cache_dir, check_flags, check_kind, check_texts, given_path
from hf_free.runtime.notebook import cell_html
from hf_free.runtime.saved_kind import LEARNER, check_kind_stays

logger = logging.getLogger(__name__)


class MetaLearner(Embedder):
    """An embedder that knows where it comes from, adapts to new classes, and can be published.

    Args:
        config: Backbone, picture size and channels, head.
        embedding: What follows the backbone; None leaves its features as they are.
        inputs: How it sees images: views, normalization, BatchNorm mode.
        backbone: The network itself, as for a pooled learner; or further arguments of `timm.create_model`, JSON-able
            (for instance `patch_size` of a ViT), for the one that `config` names. None builds that without any.

    Attributes:
        record: Where it comes from: configuration, teachers, results. It is saved with the learner.
        origin: Where on the Hub it was read from; None for a learner of this computer.

    Raises:
        LearnerError: a backbone that does not exist or does not fit.

    Example:
        >>> learner = MetaLearner.from_pretrained("org/learner")  # doctest: +SKIP
        >>> classifier = learner.adapt(pictures, ["cat", "dog"])  # doctest: +SKIP
        >>> classifier.predict(more_pictures)  # doctest: +SKIP
    """

    def __init__(
        self,
        config: LearnerConfig | None = None,
        *,
        embedding: Embedding | None = None,
        inputs: InputSettings | None = None,
        backbone: nn.Module | ModelArgs | None = None,
    ) -> None:
        super().__init__(config, embedding=embedding, inputs=inputs, backbone=backbone)
        self.record = LearnerRecord()
        self.origin: Origin | None = None

    def _repr_html_(self) -> str:
        """What a notebook shows of it; private and gated teachers are counted, not named."""
        return cell_html("MetaLearner", self._facts)

    def _facts(self) -> list[tuple[str, str]]:
        from hf_free.publishing.facts import record_facts, result_facts  # publishing: not needed to predict
        from hf_free.publishing.redaction import redacted

        described = {**self.config.of_network(), **self.embedding.config()}
        record = redacted(self.record.saved_as(FORMAT_VERSION, described))
        return [*record_facts(record), *result_facts(record)]

    @classmethod
    def create(
        cls,
        config: LearnerConfig,
        *,
        embedding: Embedding | None = None,
        inputs: InputSettings | None = None,
        token: str | None = None,
        cache_dir: str | None = None,
    ) -> MetaLearner:
        """Build a learner and, where `config.init_from` says so, start it from existing weights.

        `timm:NAME` takes timm's weights (named "not data-free" in the record); anything else is a learner's Hub id
        or folder.

        Args:
            config: See `MetaLearner`.
            embedding: None takes that of the learner it starts from, if any.
            inputs: None sees images as that learner does, with the running statistics; a mean or deviation that is
                None is that of the weights it starts from.
            token: Access token of the Hub.
            cache_dir: Folder of the download cache.

        Raises:
            LearnerError: weights of another architecture, or that cannot be fetched.
        """
        rule = "a LearnerConfig, as FreeConfig().learner"
        check_kind(config, "config", LearnerConfig, allowed=rule, optional=False, error=LearnerError)
        source = config.init_from
        if source is None:
            return cls(config, embedding=embedding, inputs=inputs)
        model_args: ModelArgs = {}
        if not InitFrom.parse(source).is_learner:
            network = pretrained_timm(source, config, cache_dir)
            cfg = timm_settings(network)
            own = InputSettings(mean=cfg["mean"][: config.channels], std=cfg["std"][: config.channels])
            data_free = False
        else:
            other = cls.from_pretrained(source, token=token, cache_dir=cache_dir)
            network, own, model_args = other.backbone, replace(other.inputs, batchnorm="running"), other.model_args
            embedding = other.embedding if embedding is None else embedding
            data_free = other.record.is_data_free
        inputs = inputs or own
        inputs = replace(inputs, mean=inputs.mean or own.mean, std=inputs.std or own.std)
        learner = cls(config, embedding=embedding, inputs=inputs, backbone=model_args)
        learner.record = LearnerRecord.started_from(source, data_free=data_free)
        load_strictly(learner.backbone, network.state_dict(), source)
        return learner

    def adapt(
        self,
        support_images: Images,
        support_labels: object,
        *,
        background: Color | str = WHITE,
        transductive: str | None = None,
    ) -> FewShotClassifier:
        """Learn new classes from a few labeled pictures.

        Within a caller's autocast block only the embedding of pictures takes part in it: heads, BatchNorm statistics
        and the steps of `maml` are computed in fp32, as they are outside.

        Args:
            support_images: A list of paths, PIL pictures, arrays or tensors (C, H, W) of any sizes, or one batch:
                a tensor (B, C, H, W), or an array with its channels first or last. Numbers are uint8, uint16, or
                floats in [0, 1]. All are read as `hf-free predict` reads files: turned as EXIF says, transparency
                laid on `background`, the first of several frames.
            support_labels: One str or int label per picture, any values, any number of pictures per class. Neither
                their order nor that of the pictures matters.
            background: What transparent pictures are laid on, those to predict too: a color's name, `#rrggbb` or three
                numbers.
            transductive: Name of a head with which the pictures of one call of `predict` help each other
                (`hf_free.learner.transductive.TRANSDUCTIVE`); None answers each alone.

        Raises:
            LearnerError: lengths that differ, no pictures, fewer than two classes, an unknown transductive head;
                `PictureError` where something is no picture or cannot be read.
        """
        self.check()
        ground = parse_color(background)
        images = as_batch(support_images, self.preprocessing, background=ground).to(self.device)
        return FewShotClassifier.adapted(
            self,
            images,
            plain_labels(support_labels, len(images)),
            background=ground,
            transductive=transductive,
            record=self.record,
            origin=self.origin,
        )

    def check(self) -> None:
        """Refuse a learner of which an attribute was set by hand to what it cannot be used with.

        Raises:
            LearnerError: with the attribute's name.
        """
        super().check()
        allowed = "what it was before: a LearnerRecord"
        check_kind(self.record, "record", LearnerRecord, allowed=allowed, optional=False, error=LearnerError)

    def full_record(self) -> LearnerRecord:
        """The record with what rebuilds this learner: the `hf_free` block of config.json."""
        self.check()
        return full_record(self, self.record)

    def save_pretrained(self, save_directory: str | Path, **_: object) -> None:
        """Write the three files of a learner into a folder; other files there, such as a card, stay as they are.

        Over an older learner this is one step: a process killed at any moment leaves the old one or the new one.

        Raises:
            ConfigError: what is no path.
            LearnerError: the folder holds a classifier, a run or another model.
            StorageError: they cannot be written there.
        """
        folder = given_path(save_directory, "save_directory", for_weights=True)
        self.check()
        check_kind_stays(folder, LEARNER, error=LearnerError)
        brought = files_to_bring(self.backbone, folder)
        with replaced_in_one_step(folder, saved_names(brought), needed=bytes_of(self, brought)) as fresh:
            copy_files(brought, fresh)
            write_files(self, self.record, fresh)

    @classmethod
    def from_pretrained(
        cls,
        pretrained_model_name_or_path: str | Path,
        *,
        revision: str | None = None,
        token: str | None = None,
        cache_dir: str | Path | None = None,
        local_files_only: bool = False,
        map_location: str | torch.device = "cpu",
    ) -> MetaLearner:
        """Load a learner from the Hub or a folder, strictly: every weight present, none too many, never a pickle.

        Args:
            pretrained_model_name_or_path: Hub id `org/name`, or a local folder (an existing folder wins).
            revision: Branch, tag or commit of the Hub repository.
            token: Access token; by default the one that `hf auth login` stored.
            cache_dir: Folder of the download cache.
            local_files_only: Whether to use the cache alone.
            map_location: Device to put the learner on; `auto` takes a GPU where there is one.

        Raises:
            ConfigError: a device that this machine does not have.
            LearnerError: a folder or repository that holds no learner, or one that is damaged.
            HubError: a repository that cannot be fetched.
        """
        check_flags(local_files_only=local_files_only)
        check_texts(revision=revision, token=token)
        check_cache_dir(cache_dir)
        source, device = given_source(pretrained_model_name_or_path), choose_device(map_location)
        fetched = fetch_files(
            source,
            revision=revision,
            token=token,
            cache_dir=cache_dir,
            local_files_only=local_files_only,
            optional=(CLASSIFIER_CONFIG,),
        )
        if (fetched.folder / CLASSIFIER_CONFIG).is_file():
            logger.warning(
                "%s is a classifier: its learner is opened, without its classes; hf-free predict and hf-free serve, "
                "and FewShotClassifier.from_pretrained, have them",
                source,
            )
        access = Access(token, cache_dir, local_files_only, device, is_strange=fetched.origin is not None)
        learner, record = rebuild(find_learner(fetched.folder, source), cls, access)
        learner.record, learner.origin = record, fetched.origin
        return learner.eval().to(device)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        token: str | None = None,
        private: bool = False,
        commit_message: str = "Upload meta-learner with hf-free",
        create_pr: bool = False,
        revision: str | None = None,
        replace_card: bool = False,
        mark_predecessor: bool = False,
    ) -> str:
        """Publish the learner's three files and a card made from its record; private teachers go unnamed.

        A card that is there already stays, unless `replace_card` says otherwise: it may have been edited by hand.

        `hf-free push` publishes a run's folder, with its picture of recovered images too.

        Args:
            repo_id: `org/name`, created if it does not exist.
            token: Hub token with the write role.
            private: Create the repository private.
            commit_message: First line of the commit.
            create_pr: Open a pull request instead of committing.
            revision: Branch to commit to; None for main.
            replace_card: Whether a card that is there is replaced.
            mark_predecessor: Whether the card of the learner on the Hub that this one continued gets `new_version`.

        Returns:
            The address of the repository, or of the pull request.

        Raises:
            HubError: an upload that fails, or no predecessor that may be marked; then nothing is uploaded.
        """
        from hf_free.publishing.card import write_card
        from hf_free.publishing.new_version import plan_new_version, predecessor_on_hub
        from hf_free.publishing.opening import check_can_be_opened
        from hf_free.publishing.push import check_push, push_made

        def make(folder: Path) -> None:
            self.save_pretrained(folder)
            write_card(folder, self.full_record(), repo_id=repo_id)

        check_push(
            repo_id,
            token=token,
            revision=revision,
            commit_message=commit_message,
            private=private,
            create_pr=create_pr,
            replace_card=replace_card,
            mark_predecessor=mark_predecessor,
        )
        check_can_be_opened(self.full_record())
        new_version = None
        if mark_predecessor:
            predecessor = predecessor_on_hub(self.record.setting("learner", "init_from"))
            new_version = plan_new_version(
                predecessor, repo_id, token=token, private=private, create_pr=create_pr, revision=revision
            )
        return push_made(
            make,
            repo_id,
            token=token,
            private=private,
            commit_message=commit_message,
            create_pr=create_pr,
            revision=revision,
            replace_card=replace_card,
            new_version=new_version,
        )
