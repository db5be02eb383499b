//! The fenced blocks of a page, and what a test does with those that hold commands. A comment directly above a block says it:
//!
//! - nothing: it is run in the page's session (`sessions`), in its order, and must end well;
//! - `<!-- not run: why -->`;
//! - `<!-- in the background -->`, or `… until: text -->`: the next block waits for nothing, or until it has printed that;
//! - `<!-- once: command -->`: it waits until the command ends well;
//! - `<!-- as: file -->`, above any other block: the session has it as that file.
//!
//! Of a `console` block the lines behind `$ ` are run; the rest is what they print, where `…` stands for anything.
//! Whether run or not, commands of natshook and make must exist.

use std::collections::{BTreeMap, BTreeSet};

use super::{natshook, pages, repository, root, sessions::SESSIONS};

/// Languages of blocks that hold commands.
const COMMANDS: [&str; 4] = ["sh", "bash", "shell", "console"];

/// A reason that says less says nothing.
const REASON_CHARS_MIN: usize = 15;

/// A fenced block.
pub(crate) struct Block {
    /// Its page and line, for people.
    pub(crate) place: String,
    pub(crate) language: String,
    pub(crate) text: String,
    /// The comments directly above it.
    comments: Vec<String>,
}

impl Block {
    /// What a comment above says behind `name`.
    pub(crate) fn comment(&self, name: &str) -> Option<&str> {
        let said = self.comments.iter().find_map(|comment| comment.strip_prefix(name));
        said.map(|rest| rest.trim_start_matches(':').trim())
    }

    pub(crate) fn has_commands(&self) -> bool {
        COMMANDS.contains(&self.language.as_str())
    }

    pub(crate) fn is_run(&self) -> bool {
        self.has_commands() && self.comment("not run").is_none()
    }
}

/// The blocks of a page in their order.
pub(crate) fn blocks(page: &str, text: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut comments = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        if let Some(begin) = line.strip_prefix("<!--") {
            let mut comment = begin.to_owned();
            while !comment.contains("-->") {
                let (_, more) = lines.next().unwrap_or_else(|| panic!("{page}: a comment has no end"));
                comment = format!("{comment} {}", more.trim());
            }
            comments.push(comment.replace("-->", "").trim().to_owned());
        } else if let Some(language) = line.strip_prefix("```") {
            let inside = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            let text = inside.collect::<Vec<_>>().join("\n") + "\n";
            blocks.push(Block {
                place: format!("{page}:{}", number + 1),
                language: language.to_owned(),
                text,
                comments: std::mem::take(&mut comments),
            });
        } else {
            comments.clear();
        }
    }
    blocks
}

fn all_blocks() -> impl Iterator<Item = (String, Block)> {
    pages()
        .into_iter()
        .flat_map(|(page, text)| blocks(&page, &text).into_iter().map(move |block| (page.clone(), block)))
}

#[test]
fn every_block_of_commands_is_run_or_says_why_not() {
    let mut found = 0;
    for (page, block) in all_blocks().filter(|(_, block)| block.has_commands()) {
        found += 1;
        match block.comment("not run") {
            Some(why) => {
                assert!(why.chars().count() >= REASON_CHARS_MIN, "{}: not run, but why?", block.place);
                for test in why.split([' ', ',', ';']).filter(|word| word.ends_with(".rs")) {
                    assert!(root().join(test).exists(), "{}: there is no {test}", block.place);
                }
            }
            None => assert!(
                SESSIONS.iter().any(|session| session.page == page),
                "{}: no session runs the commands of {page} (tests/docs/sessions.rs); or say <!-- not run: why --> \
                 directly above the block",
                block.place
            ),
        }
    }
    assert!(found > 15, "{found}");
}

#[test]
fn every_comment_above_a_block_is_one_that_is_understood() {
    for (_, block) in all_blocks() {
        for comment in &block.comments {
            let known = ["not run: ", "in the background", "once: ", "as: "];
            assert!(known.iter().any(|known| comment.starts_with(known)), "{}: {comment:?}", block.place);
        }
    }
}

/// The commands of a page: of its blocks, and what stands between backticks.
fn commands(text: &str, page: &str) -> Vec<String> {
    let of_blocks = blocks(page, text).into_iter().filter(Block::has_commands);
    let mut commands: Vec<String> = of_blocks
        .flat_map(|block| block.text.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>())
        .collect();
    commands.extend(text.split('`').skip(1).step_by(2).map(|code| code.replace('\n', " ")));
    commands
}

#[test]
fn every_command_of_natshook_that_is_shown_exists() {
    let (mut seen, mut helps) = (BTreeSet::new(), Helps::default());
    for (page, text) in pages().into_iter().filter(|(page, _)| page != "CHANGELOG.md") {
        for command in commands(&text, &page) {
            let command = command.trim_start().trim_start_matches("$ ").trim_start_matches("target/debug/");
            let Some(arguments) = command.strip_prefix("natshook ") else { continue };
            let arguments = arguments.split(['|', '>', '#', '&', ';']).next().unwrap_or_default();
            let words: Vec<&str> = arguments.split_whitespace().collect();
            if helps.check(&words, &page) {
                seen.insert(words[0].to_owned());
            }
        }
    }
    for command in ["run", "check", "publish", "send", "dev", "schema", "targets", "dead-letters", "replay"] {
        assert!(seen.contains(command), "no page shows natshook {command}");
    }
}

/// What each command answers to --help, asked once.
#[derive(Default)]
struct Helps(BTreeMap<String, String>);

impl Helps {
    fn of(&mut self, path: &[&str]) -> &str {
        let ask = || String::from_utf8(natshook(&[path, &["--help"]].concat()).stdout).unwrap();
        self.0.entry(path.join(" ")).or_insert_with(ask)
    }

    /// Whether `words` are a command, each of whose options has to exist, and not prose that begins with the product's
    /// name.
    fn check(&mut self, words: &[&str], page: &str) -> bool {
        let mut path: Vec<&str> = Vec::new();
        for word in words {
            // `list | show` stands for either; what follows is another way to write the same.
            if !is_listed(word, self.of(&path)) {
                break;
            }
            path.push(word);
        }
        let help = self.of(&path);
        for option in words.iter().filter(|word| word.starts_with("--")) {
            let option = option.split(['=', ',', '.', ']']).next().unwrap_or_default();
            assert!(help.contains(option), "{page}: natshook {} has no {option}", path.join(" "));
        }
        !path.is_empty()
    }
}

/// Whether the help lists the command `word`.
fn is_listed(word: &str, help: &str) -> bool {
    help.lines().any(|line| line.strip_prefix("  ").is_some_and(|line| line.split(' ').next() == Some(word)))
}

#[test]
fn every_make_target_and_script_that_is_shown_exists() {
    let makefile = repository("Makefile");
    let mut seen = 0;
    for (page, text) in pages() {
        for command in commands(&text, &page) {
            let command = command.trim_start().trim_start_matches("$ ");
            if let Some(words) = command.strip_prefix("make ") {
                let targets = words.split('#').next().unwrap_or_default().split_whitespace();
                for target in targets.filter(|word| {
                    !word.contains('=') && word.chars().all(|c| c.is_ascii_lowercase() || c == '-')
                }) {
                    assert!(makefile.contains(&format!("\n{target}: ")), "{page}: there is no make {target}");
                    seen += 1;
                }
            }
            for word in command.split_whitespace().filter(|word| word.starts_with("scripts/")) {
                let path = word.trim_matches(|c: char| !c.is_alphanumeric());
                assert!(root().join(path).exists(), "{page}: there is no {path}");
            }
        }
    }
    assert!(seen > 5, "{seen}");
}
