//! From a package to a published adapter: one commit, downloaded again and compared, taken back whole when anything fails.
//!
//! Every publication may be repeated: what is there already is not sent again, and a commit whose answer was lost is found.

use super::{
    Destination, Error, Hub, Package, RepoId, Result,
    commit::{Change, Commit},
    identity::Identity,
    package::{DESCRIPTION, File, PICTURES, WEIGHTS},
    repository::{Entry, Info},
};
use std::collections::BTreeMap;

/// Where to, and how.
#[derive(Clone, Debug)]
pub struct Order {
    pub destination: Destination,
    pub private: bool,
    /// A new version may take the place of an adapter that is there.
    pub replace: bool,
    /// Such as `Mucha: 200 steps`.
    pub summary: String,
    /// The base model where the card names one of the Hub's.
    pub base_model: Option<RepoId>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Published {
    pub repo: RepoId,
    pub url: String,
    pub commit: String,
    pub private: bool,
    /// The repository is new.
    pub created: bool,
    /// The Hub had all of it already, so nothing was written.
    pub unchanged: bool,
}

/// How far it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stage {
    Checking,
    /// Bytes of files that are to be sent.
    Uploading {
        done: u64,
        total: u64,
    },
    Committing,
    /// Files downloaded again.
    Comparing {
        done: usize,
        total: usize,
    },
}

/// `package` is made once the account is known, because the card names the repository.
pub async fn publish(
    hub: &Hub,
    order: &Order,
    package: impl FnOnce(&RepoId) -> Result<Package>,
    tell: &(dyn Fn(Stage) + Sync),
) -> Result<Published> {
    tell(Stage::Checking);
    let account = hub.whoami().await?;
    let repo = account.repository(&order.destination)?;
    check_base(hub, order).await?;
    let package = package(&repo)?;
    let (before, created) = open(hub, &repo, &account, order).await?;
    let publication = Publication { hub, repo: &repo, account: &account, order, package: &package, tell };
    match publication.write(&before, created).await {
        Ok((commit, unchanged)) => {
            let url = format!("{}/{repo}", hub.endpoint());
            Ok(Published { repo, url, commit, private: order.private, created, unchanged })
        }
        Err(error) if created => publication.undo(error, hub.delete(&repo, &account.name).await),
        Err(error) => Err(error),
    }
}

/// Deletes a repository that holds an adapter of Atelier's, and no other.
pub async fn unpublish(hub: &Hub, destination: &Destination) -> Result<RepoId> {
    let account = hub.whoami().await?;
    let repo = account.repository(destination)?;
    let Some(info) = hub.info(&repo).await? else { return Ok(repo) };
    if !hub.tree(&repo, &info.sha).await?.contains_key(DESCRIPTION) {
        return Err(Error::refused(format!(
            "The repository {repo} was not published by Atelier (it has no {DESCRIPTION}), so it is left alone."
        )));
    }
    hub.delete(&repo, &account.name).await?;
    Ok(repo)
}

/// A card must not point at nothing.
async fn check_base(hub: &Hub, order: &Order) -> Result<()> {
    let Some(base) = &order.base_model else { return Ok(()) };
    match hub.info(base).await {
        Ok(Some(_)) => Ok(()),
        // The token is good, so this is how the Hub speaks of what it does not show.
        Ok(None) | Err(Error::Unauthorized(_)) => Err(Error::refused(format!(
            "The base model {base} is not on the Hub, or this token may not see it; correct its name, or give only a name without owner."
        ))),
        Err(error) => Err(error),
    }
}

/// The repository as it is, made if need be; whether it was made now.
async fn open(hub: &Hub, repo: &RepoId, account: &Identity, order: &Order) -> Result<(Info, bool)> {
    if let Some(info) = hub.info(repo).await? {
        return Ok((info, false));
    }
    let created = hub.create(repo, &account.name, order.private).await?;
    let made =
        hub.info(repo).await.and_then(|info| info.ok_or_else(|| Error::malformed("a repository that is not there once it was made")));
    match made {
        Ok(info) => Ok((info, created)),
        Err(error) if created => Err(undone(error, hub.delete(repo, &account.name).await, hub, repo)),
        Err(error) => Err(error),
    }
}

fn undone(error: Error, undo: Result<()>, hub: &Hub, repo: &RepoId) -> Error {
    match undo {
        Ok(()) => error,
        Err(undo) => Error::NotUndone { error: Box::new(error), undo: Box::new(undo), url: format!("{}/{repo}", hub.endpoint()) },
    }
}

struct Publication<'a> {
    hub: &'a Hub,
    repo: &'a RepoId,
    account: &'a Identity,
    order: &'a Order,
    package: &'a Package,
    tell: &'a (dyn Fn(Stage) + Sync),
}

impl Publication<'_> {
    /// The commit that holds the package, and whether it was there already.
    async fn write(&self, before: &Info, created: bool) -> Result<(String, bool)> {
        let tree = self.hub.tree(self.repo, &before.sha).await?;
        let changed: Vec<&File> =
            self.package.files.iter().filter(|file| !tree.get(&file.path).is_some_and(|entry| file.is(entry))).collect();
        let stale: Vec<&Entry> =
            tree.values().filter(|entry| entry.path.starts_with(PICTURES) && self.package.get(&entry.path).is_none()).collect();
        let unchanged = changed.is_empty() && stale.is_empty();
        if !unchanged {
            self.check_place(&tree)?;
        }
        // What is to be hidden is hidden before anything new is seen; what is to be seen, once it is known to be right.
        if self.order.private && !before.private && !created {
            self.hub.set_private(self.repo, true).await?;
        }
        let commit = if unchanged { before.sha.clone() } else { self.replace(&before.sha, &tree, &changed, &stale).await? };
        if !self.order.private && before.private {
            self.hub.set_private(self.repo, false).await?;
        }
        Ok((commit, unchanged))
    }

    /// Somebody's other work is not written over, and an adapter only when that is wanted.
    fn check_place(&self, tree: &BTreeMap<String, Entry>) -> Result<()> {
        let (repo, ours) = (self.repo, tree.contains_key(DESCRIPTION) && tree.contains_key(WEIGHTS));
        let empty = tree.keys().all(|path| path == ".gitattributes");
        if !empty && !ours {
            return Err(Error::refused(format!(
                "The repository {repo} holds something that Atelier did not publish; choose another name."
            )));
        }
        if ours && !self.order.replace {
            return Err(Error::Taken(format!(
                "The repository {repo} holds an adapter already; agree to replace it by this version, or choose another name."
            )));
        }
        Ok(())
    }

    /// Uploads, commits and compares; what was there before comes back when the comparison fails.
    async fn replace(&self, parent: &str, tree: &BTreeMap<String, Entry>, changed: &[&File], stale: &[&Entry]) -> Result<String> {
        let touched = changed.iter().map(|file| file.path.as_str()).chain(stale.iter().map(|entry| entry.path.as_str()));
        let restore = self.restoration(parent, tree, touched).await?;
        let mut changes = self.upload(changed).await?;
        changes.extend(stale.iter().map(|entry| Change::Delete { path: entry.path.clone() }));
        (self.tell)(Stage::Committing);
        let commit = self.commit(&Commit { summary: &self.order.summary, parent, changes: &changes }).await?;
        let Err(error) = self.compare(&commit).await else { return Ok(commit) };
        let undo = Commit { summary: "Take back a version that did not arrive whole", parent: &commit, changes: &restore };
        Err(undone(error, self.hub.commit(self.repo, &undo).await.map(drop), self.hub, self.repo))
    }

    /// The changes that lead back to how these paths are now.
    async fn restoration<'p>(
        &self,
        revision: &str,
        tree: &BTreeMap<String, Entry>,
        paths: impl Iterator<Item = &'p str>,
    ) -> Result<Vec<Change>> {
        let mut changes = Vec::new();
        for path in paths {
            let path = path.to_owned();
            changes.push(match tree.get(&path) {
                None => Change::Delete { path },
                Some(Entry { lfs: Some(lfs), .. }) => Change::Point { path, sha256: lfs.oid.clone(), size: lfs.size },
                Some(_) => Change::Write { content: self.hub.download(self.repo, revision, &path).await?, path },
            });
        }
        Ok(changes)
    }

    async fn upload(&self, files: &[&File]) -> Result<Vec<Change>> {
        let total = files.iter().map(|file| file.content.len() as u64).sum();
        let (mut done, mut changes) = (0, Vec::with_capacity(files.len()));
        (self.tell)(Stage::Uploading { done, total });
        let large = if files.is_empty() { Default::default() } else { self.hub.large_files(self.repo, files).await? };
        for file in files {
            let path = file.path.clone();
            changes.push(if large.contains(&path) {
                self.hub.upload(self.repo, file).await?;
                Change::Point { path, sha256: file.sha256.clone(), size: file.content.len() as u64 }
            } else {
                Change::Write { path, content: file.content.clone() }
            });
            done += file.content.len() as u64;
            (self.tell)(Stage::Uploading { done, total });
        }
        Ok(changes)
    }

    /// Sends the commit until its outcome is known: an answer may be lost after the commit was made.
    async fn commit(&self, commit: &Commit<'_>) -> Result<String> {
        const ATTEMPTS: u32 = 3;
        let mut attempt = 0;
        loop {
            let error = match self.hub.commit(self.repo, commit).await {
                Ok(oid) => return Ok(oid),
                Err(error) if error.is_transient() || matches!(error, Error::Conflict { .. } | Error::Malformed(_)) => error,
                Err(error) => return Err(error),
            };
            let head = self.hub.info(self.repo).await?.map(|info| info.sha);
            match head {
                Some(head) if head != commit.parent && self.holds_package(&head).await? => return Ok(head),
                Some(head) if head == commit.parent && attempt + 1 < ATTEMPTS && self.hub.wait_after(&error, attempt).await => attempt += 1,
                _ => return Err(error),
            }
        }
    }

    async fn holds_package(&self, revision: &str) -> Result<bool> {
        let tree = self.hub.tree(self.repo, revision).await?;
        Ok(self.package.files.iter().all(|file| tree.get(&file.path).is_some_and(|entry| file.is(entry))))
    }

    /// Every file as anybody would download it, bit by bit.
    async fn compare(&self, commit: &str) -> Result<()> {
        let total = self.package.files.len();
        for (done, file) in self.package.files.iter().enumerate() {
            (self.tell)(Stage::Comparing { done, total });
            if self.hub.download(self.repo, commit, &file.path).await? != file.content {
                return Err(Error::Mismatch(file.path.clone()));
            }
        }
        (self.tell)(Stage::Comparing { done: total, total });
        Ok(())
    }

    fn undo<T>(&self, error: Error, undo: Result<()>) -> Result<T> {
        tracing::info!(repo = %self.repo, account = self.account.name, "a publication failed, and its new repository is taken back");
        Err(undone(error, undo, self.hub, self.repo))
    }
}
