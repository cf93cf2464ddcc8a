//! The commit of a git work tree, read from its files; git itself is not run.
//!
//! Objects are not opened, so of tags only those are known whose commit stands in a ref: all lightweight ones, and
//! annotated ones after `git gc` or a clone, which write the commit next to the tag. Whether files were changed since
//! the commit is not known either.
//!
//! Source: gitrepository-layout(5), `git pack-refs`.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Bytes of a ref or of a file that points elsewhere.
const REF_BYTES_MAX: u64 = 4 << 10;
/// Bytes of `packed-refs`; a million refs stay below it.
const PACKED_BYTES_MAX: u64 = 128 << 20;
/// Refs that point to refs, as git itself follows.
const SYMBOLIC_DEPTH_MAX: usize = 5;
/// Tags of a repository that are looked at one by one.
const LOOSE_TAGS_MAX: usize = 10_000;

/// Why there is no commit.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GitError {
    /// Neither here nor above is a repository.
    #[error("{} is in no git work tree: name the folder that has .git, or a folder below it", .path.display())]
    NoRepository {
        /// Where the search began.
        path: PathBuf,
    },
    /// A file could not be read.
    #[error("read {}", .path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A file has not the documented form.
    #[error("{}: {reason}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A branch without a first commit.
    #[error("branch {branch} has no commit yet")]
    NoCommit {
        /// Full name of the branch, as in `refs/heads/main`.
        branch: String,
    },
}

/// What a work tree is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Head {
    /// Commit, 40 (SHA-1) or 64 (SHA-256) hexadecimal digits.
    pub commit_id: String,
    /// Branch, as in `main`; `None` for a detached head.
    pub branch: Option<String>,
    /// Tags that are known to point to the commit, sorted.
    pub tags: Vec<String>,
}

/// Reads the head of the work tree that `path` lies in.
///
/// # Errors
/// [`GitError`] if there is no repository, no commit, or a file of git cannot be read.
pub fn read_head(path: &Path) -> Result<Head, GitError> {
    let git = find_git_folder(path)?;
    let common = common_folder(&git)?;
    if common.join("reftable").is_dir() {
        let reason =
            "refs are stored as a reftable, which is not read: convert with `git refs migrate --ref-format=files`";
        return Err(GitError::Format { path: common.join("reftable"), reason: reason.to_owned() });
    }
    let mut name = "HEAD".to_owned();
    let mut branch = None;
    for _ in 0..SYMBOLIC_DEPTH_MAX {
        // HEAD is of the work tree, everything under refs/heads of the repository.
        let place = if name == "HEAD" { git.join(&name) } else { common.join(&name) };
        let text = match read_small(&place, REF_BYTES_MAX)? {
            Some(text) => text,
            None => match packed_commit(&common, &name)? {
                Some(commit_id) => commit_id,
                None if name == "HEAD" => return Err(GitError::NoRepository { path: path.to_owned() }),
                None => return Err(GitError::NoCommit { branch: name }),
            },
        };
        match text.trim_end().strip_prefix("ref:") {
            Some(target) => {
                name = ref_name(target.trim(), &place)?;
                branch = name.strip_prefix("refs/heads/").map(str::to_owned);
            }
            None => {
                let commit_id = object_id(text.trim_end(), &place)?;
                let tags = tags_of(&common, &commit_id)?;
                return Ok(Head { commit_id, branch, tags });
            }
        }
    }
    Err(GitError::Format { path: git.join("HEAD"), reason: "refs point at each other in a circle".to_owned() })
}

fn find_git_folder(path: &Path) -> Result<PathBuf, GitError> {
    // Of `.` the folders above are not in its text.
    let start = fs::canonicalize(path).map_err(|source| GitError::Read { path: path.to_owned(), source })?;
    for folder in start.ancestors() {
        let git = folder.join(".git");
        if git.is_dir() {
            return Ok(git);
        }
        // A linked work tree or submodule has a file that names the folder.
        let Some(text) = read_small(&git, REF_BYTES_MAX)? else { continue };
        return match text.trim_end().strip_prefix("gitdir:") {
            Some(target) => Ok(folder.join(target.trim())),
            None => Err(GitError::Format { path: git, reason: "neither a folder nor `gitdir: FOLDER`".to_owned() }),
        };
    }
    Err(GitError::NoRepository { path: path.to_owned() })
}

/// Where refs lie: the folder itself, or of a linked work tree the one of the main work tree.
fn common_folder(git: &Path) -> Result<PathBuf, GitError> {
    let pointer = read_small(&git.join("commondir"), REF_BYTES_MAX)?;
    Ok(pointer.map_or_else(|| git.to_owned(), |target| git.join(target.trim_end())))
}

/// A ref inside the repository: a name with `..` would lead out of it.
fn ref_name(name: &str, place: &Path) -> Result<String, GitError> {
    let plain = name.starts_with("refs/")
        && !name.contains(char::is_control)
        && !name.split('/').any(|part| part.is_empty() || part == "." || part == "..");
    if plain {
        return Ok(name.to_owned());
    }
    Err(GitError::Format { path: place.to_owned(), reason: format!("{name:?} is no ref") })
}

fn object_id(text: &str, place: &Path) -> Result<String, GitError> {
    if matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(text.to_ascii_lowercase());
    }
    Err(GitError::Format { path: place.to_owned(), reason: "neither a ref nor a commit id".to_owned() })
}

fn packed_commit(common: &Path, name: &str) -> Result<Option<String>, GitError> {
    let place = common.join("packed-refs");
    let Some(text) = read_small(&place, PACKED_BYTES_MAX)? else { return Ok(None) };
    let line = text.lines().find(|line| line.split_once(' ').is_some_and(|(_, found)| found == name));
    Ok(line.and_then(|line| line.split_once(' ')).map(|(commit_id, _)| commit_id.to_owned()))
}

fn tags_of(common: &Path, commit_id: &str) -> Result<Vec<String>, GitError> {
    let mut tags = BTreeSet::new();
    if let Some(text) = read_small(&common.join("packed-refs"), PACKED_BYTES_MAX)? {
        let mut tag = None;
        for line in text.lines() {
            // `^COMMIT` is what the annotated tag of the line before points to.
            let (found, name) = match line.strip_prefix('^') {
                Some(peeled) => (peeled, tag),
                None => {
                    let (found, name) = line.split_once(' ').unwrap_or((line, ""));
                    tag = name.strip_prefix("refs/tags/");
                    (found, tag)
                }
            };
            tags.extend(name.filter(|_| found == commit_id).map(str::to_owned));
        }
    }
    let root = common.join("refs").join("tags");
    let mut folders = vec![root.clone()];
    let mut looked_at = 0;
    while let Some(folder) = folders.pop() {
        let Ok(entries) = fs::read_dir(&folder) else { continue };
        for place in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            looked_at += 1;
            if looked_at > LOOSE_TAGS_MAX {
                break;
            }
            if place.is_dir() {
                folders.push(place);
                continue;
            }
            let points_here = read_small(&place, REF_BYTES_MAX)?.is_some_and(|text| text.trim_end() == commit_id);
            let name = place.strip_prefix(&root).ok().and_then(Path::to_str);
            let Some(name) = name else { continue };
            // A loose ref overrides a packed one of its name.
            if points_here {
                tags.insert(name.to_owned());
            } else {
                tags.remove(name);
            }
        }
    }
    Ok(tags.into_iter().collect())
}

/// The text of a file; `None` where there is none, or a folder in its place.
fn read_small(path: &Path, bytes_max: u64) -> Result<Option<String>, GitError> {
    let failed = |source| GitError::Read { path: path.to_owned(), source };
    match fs::metadata(path) {
        Ok(found) if found.is_dir() => return Ok(None),
        Ok(found) if found.len() > bytes_max => {
            let reason = format!("{} bytes, more than {bytes_max}", found.len());
            return Err(GitError::Format { path: path.to_owned(), reason });
        }
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error)),
    }
    fs::read_to_string(path).map(Some).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: &str = "1111111111111111111111111111111111111111";
    const SECOND: &str = "2222222222222222222222222222222222222222";
    const TAG: &str = "3333333333333333333333333333333333333333";

    fn write(root: &Path, file: &str, text: &str) {
        let place = root.join(file);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    }

    #[test]
    fn a_branch_is_read_from_its_own_file_or_from_the_packed_refs() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), ".git/HEAD", "ref: refs/heads/feature/x\n");
        let tagged =
            format!("# pack-refs with: peeled\n{FIRST} refs/heads/feature/x\n{TAG} refs/tags/v1.0\n^{FIRST}\n");
        write(root.path(), ".git/packed-refs", &tagged);
        write(root.path(), "src/deep/file", "");
        let head = read_head(&root.path().join("src/deep")).unwrap();
        let expected =
            Head { commit_id: FIRST.to_owned(), branch: Some("feature/x".to_owned()), tags: vec!["v1.0".to_owned()] };
        assert_eq!(head, expected);

        write(root.path(), ".git/refs/heads/feature/x", &format!("{SECOND}\n"));
        write(root.path(), ".git/refs/tags/light", &format!("{SECOND}\n"));
        let head = read_head(root.path()).unwrap();
        assert_eq!((head.commit_id.as_str(), head.tags), (SECOND, vec!["light".to_owned()]));
    }

    #[test]
    fn a_detached_head_has_no_branch() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), ".git/HEAD", FIRST);
        let head = read_head(root.path()).unwrap();
        assert_eq!((head.commit_id.as_str(), head.branch.as_deref()), (FIRST, None));
    }

    #[test]
    fn a_linked_work_tree_has_its_own_head_and_shared_branches() {
        let root = tempfile::tempdir().unwrap();
        write(root.path(), "main/.git/HEAD", "ref: refs/heads/main\n");
        write(root.path(), "main/.git/refs/heads/side", SECOND);
        write(root.path(), "main/.git/worktrees/side/HEAD", "ref: refs/heads/side\n");
        write(root.path(), "main/.git/worktrees/side/commondir", "../..\n");
        write(root.path(), "side/.git", "gitdir: ../main/.git/worktrees/side\n");
        assert_eq!(read_head(&root.path().join("side")).unwrap().commit_id, SECOND);
    }

    #[test]
    fn what_is_no_repository_says_so() {
        let check = |head: Option<&str>, expected: &str| {
            let root = tempfile::tempdir().unwrap();
            if let Some(head) = head {
                write(root.path(), ".git/HEAD", head);
            }
            let error = read_head(root.path()).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(None, "no git work tree");
        check(Some("ref: refs/heads/main\n"), "refs/heads/main has no commit yet");
        check(Some("ref: refs/../../secret\n"), "is no ref");
        check(Some("garbage\n"), "neither a ref nor a commit id");
        check(Some("ref: refs/heads/main\n\u{0}"), "is no ref");
        check(Some(&"x".repeat(5_000)), "more than 4096");
    }

    #[test]
    fn the_answer_is_that_of_git_where_git_is_there() {
        let root = tempfile::tempdir().unwrap();
        let git = |arguments: &[&str]| {
            let mut command = std::process::Command::new("git");
            command
                .current_dir(root.path())
                .args(["-c", "user.name=x", "-c", "user.email=x@example.org"])
                .args(arguments);
            command.output().map(|output| String::from_utf8(output.stdout).unwrap().trim().to_owned())
        };
        if git(&["init", "--quiet", "--initial-branch=trunk"]).is_err() {
            println!("skipped: git is not installed");
            return;
        }
        git(&["commit", "--quiet", "--allow-empty", "--message=one"]).unwrap();
        git(&["tag", "-a", "v2.9", "--message=tag"]).unwrap();
        git(&["pack-refs", "--all"]).unwrap();
        let head = read_head(root.path()).unwrap();
        assert_eq!(head.commit_id, git(&["rev-parse", "HEAD"]).unwrap());
        assert_eq!((head.branch.as_deref(), head.tags), (Some("trunk"), vec!["v2.9".to_owned()]));
        // The tag moves: its packed entry is the old commit's.
        git(&["commit", "--quiet", "--allow-empty", "--message=two"]).unwrap();
        git(&["tag", "--force", "v2.9"]).unwrap();
        let first = git(&["rev-parse", "HEAD~1"]).unwrap();
        git(&["checkout", "--quiet", "--detach", &first]).unwrap();
        assert_eq!(read_head(root.path()).unwrap().tags, Vec::<String>::new());
    }
}
