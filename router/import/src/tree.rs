//! From tokens to blocks within blocks.

use crate::remark::{At, Remarks};
use crate::words::{Token, rest, words};

/// Blocks within blocks: more than any file needs, and few enough for any stack.
const DEPTH_MAX: usize = 64;

/// A statement, with its block if it has one.
#[derive(Debug)]
pub(crate) struct Node {
    pub(crate) at: At,
    /// As it is written.
    raw: String,
    pub(crate) words: Vec<String>,
    pub(crate) block: Option<Vec<Node>>,
}

impl Node {
    /// The first word.
    pub(crate) fn keyword(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    /// The word at that place behind the keyword, from 0.
    pub(crate) fn argument(&self, index: usize) -> Option<&str> {
        self.words.get(index + 1).map(String::as_str)
    }

    /// All that stands behind the keyword, as it is written.
    pub(crate) fn rest(&self) -> &str {
        rest(&self.raw)
    }

    pub(crate) fn children(&self) -> &[Node] {
        self.block.as_deref().unwrap_or_default()
    }
}

pub(crate) fn tree(tokens: Vec<(At, Token)>, remarks: &mut Remarks) -> Vec<Node> {
    // The lists that are open, the outermost first.
    let mut open: Vec<Vec<Node>> = vec![Vec::new()];
    let mut too_deep = 0_usize;
    for (at, token) in tokens {
        match token {
            Token::Open if too_deep > 0 => too_deep += 1,
            Token::Close if too_deep > 0 => too_deep -= 1,
            _ if too_deep > 0 => {}
            Token::Open => {
                if open.len() > DEPTH_MAX {
                    remarks
                        .left_out(&at, format!("blocks go more than {DEPTH_MAX} deep: this one is not read"));
                    too_deep = 1;
                    continue;
                }
                let list = open.last_mut();
                if let Some(list) = list
                    && list.last().is_none_or(|last| last.block.is_some())
                {
                    remarks.source(&at, "{ belongs to no statement: the block is not read");
                    list.push(Node { at, raw: String::new(), words: Vec::new(), block: None });
                }
                open.push(Vec::new());
            }
            Token::Close if open.len() > 1 => close(&mut open),
            Token::Close => remarks.source(&at, "} closes nothing"),
            Token::Statement(raw) => {
                let (words, lost) = words(&raw);
                if lost {
                    remarks.source(&at, "a \" without its second one: the rest of the line is not read");
                }
                if let Some(list) = open.last_mut().filter(|_| !words.is_empty()) {
                    list.push(Node { at, raw, words, block: None });
                }
            }
        }
    }
    while open.len() > 1 {
        if let Some(node) = open.get(open.len() - 2).and_then(|list| list.last()) {
            let text = format!(
                "the block of {:?} is never closed: it is taken to end with the file",
                node.keyword()
            );
            remarks.source(&node.at, text);
        }
        close(&mut open);
    }
    open.pop().unwrap_or_default()
}

fn close(open: &mut Vec<Vec<Node>>) {
    let children = open.pop().unwrap_or_default();
    if let Some(node) = open.last_mut().and_then(|list| list.last_mut()) {
        node.block = Some(children);
    }
}
