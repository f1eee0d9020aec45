//! Machine code of a component.

use wasmtime::Engine;
use wasmtime::component::Component;

/// What a compiler of this uvs made of a component, as bytes. To load it means to run it, so it is made in two places
/// only: by the compiler, and by the cache of code out of a file with a tag that only this user can make.
pub(crate) struct Code(Vec<u8>);

impl Code {
    /// Bytes that whoever calls this got from a compiler of this uvs, in whatever detour nobody else can have changed
    /// them.
    pub(crate) fn of_our_compiler(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The component, ready to be run.
    ///
    /// # Errors
    /// It is code of another version of wasmtime, with other settings, or for another machine.
    pub(crate) fn load(&self, engine: &Engine) -> wasmtime::Result<Component> {
        #[expect(unsafe_code, reason = "compiled code is machine code; wasmtime cannot check it")]
        // SAFETY: the bytes are what wasmtime of a uvs of this user serialized, as `of_our_compiler` demands. Its two
        // callers have them from a process that they started from their own program, over a pipe that nobody else
        // has; and from a file that carries a tag made with a key that only this user can read, in a folder that only
        // this user can write. wasmtime itself compares version, settings and machine.
        unsafe {
            Component::deserialize(engine, &self.0)
        }
    }
}
