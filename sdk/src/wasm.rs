//! The component's side of `wit/scheduler.wit`: glue that [`export!`](crate::export) expands to.

#![expect(unsafe_code, reason = "bindings of the component model, and a static in a module without threads")]

use alloc::string::String;
use alloc::vec::Vec;
use core::cell::RefCell;

use crate::{Address, Destination, Flow, Host, Level, Protocol, Runner, Scheduler};

#[doc(hidden)]
pub mod generated {
    #![allow(missing_docs, unreachable_pub, clippy::allow_attributes_without_reason, reason = "generated")]

    wit_bindgen::generate!({
        path: "../wit",
        world: "scheduler",
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "uvs_sdk::wasm::generated",
    });
}

/// The same world with feedback.
#[doc(hidden)]
pub mod observing {
    #![allow(missing_docs, unreachable_pub, clippy::allow_attributes_without_reason, reason = "generated")]

    wit_bindgen::generate!({
        path: "../wit",
        world: "observing-scheduler",
        with: { "uvs:scheduler/types@0.1.0": crate::wasm::generated::uvs::scheduler::types },
        pub_export_macro: true,
        export_macro_name: "export_component",
        default_bindings_module: "uvs_sdk::wasm::observing",
    });
}

use generated::uvs::scheduler::types;

#[cfg(feature = "runtime")]
mod memory;

#[cfg(feature = "runtime")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // The host reports the trap; to format the message would double the size of the component.
    core::arch::wasm32::unreachable()
}

/// Where a component keeps its one instance.
pub struct Slot<S>(RefCell<Option<Runner<S>>>);

// SAFETY: a component instance has one thread; wasm32-unknown-unknown without atomics has no others.
unsafe impl<S> Sync for Slot<S> {}

impl<S: Scheduler> Slot<S> {
    pub const fn new() -> Self {
        Self(RefCell::new(None))
    }

    pub fn init(&self, service: &str, options: &str) -> Result<(), String> {
        *self.0.borrow_mut() = None;
        let runner = Runner::new(service, options)?;
        *self.0.borrow_mut() = Some(runner);
        Ok(())
    }

    pub fn update(&self, destinations: &[types::Destination]) {
        self.with(|runner| {
            runner.update_from(destinations.iter().map(|d| {
                let address = Address { hi: d.address_hi, lo: d.address_lo };
                Destination::new(d.id, d.weight, address, d.port)
            }));
        });
    }

    pub fn schedule(&self, flow: &types::Flow, changed: &[u64]) -> Option<u32> {
        let flow = Flow {
            protocol: match flow.protocol {
                types::Protocol::Tcp => Protocol::Tcp,
                types::Protocol::Udp => Protocol::Udp,
                types::Protocol::Sctp => Protocol::Sctp,
            },
            client: Address { hi: flow.client_hi, lo: flow.client_lo },
            client_port: flow.client_port,
            virtual_addr: Address { hi: flow.virtual_hi, lo: flow.virtual_lo },
            virtual_port: flow.virtual_port,
            mark: flow.mark,
        };
        self.with(|runner| runner.schedule(&flow, changed, &mut Director))
    }

    pub fn observe(&self, events: &[u64]) {
        self.with(|runner| runner.observe(events, &mut Director));
    }

    pub fn save(&self) -> Vec<u8> {
        self.with(|runner| runner.save())
    }

    pub fn restore(&self, state: &[u8]) -> bool {
        self.with(|runner| runner.restore(state))
    }

    fn with<R>(&self, call: impl FnOnce(&mut Runner<S>) -> R) -> R {
        call(self.0.borrow_mut().as_mut().expect("the director calls init first"))
    }
}

/// The imports of the world.
struct Director;

impl Host for Director {
    fn random(&mut self) -> u64 {
        generated::random()
    }

    fn now_ms(&mut self) -> u64 {
        generated::now_ms()
    }

    fn log(&mut self, level: Level, message: &str) {
        generated::log(level as u8, message);
    }
}

/// Makes a [`Scheduler`] the component that this crate builds to.
#[macro_export]
macro_rules! export {
    ($scheduler:ty) => {
        const _: () = {
            const _: () = $crate::assert_scheduler::<$scheduler>(false);
            $crate::component!($scheduler, $crate::wasm::generated::Guest);
    $crate::wasm::generated::export_component!(Component with_types_in $crate::wasm::generated);
        };
    };
}

/// As [`export!`], for a scheduler that wants to hear of events ([`Scheduler::OBSERVES`]).
#[macro_export]
macro_rules! export_observing {
    ($scheduler:ty) => {
        const _: () = {
            const _: () = $crate::assert_scheduler::<$scheduler>(true);
            $crate::component!($scheduler, $crate::wasm::observing::Guest);

            impl $crate::wasm::observing::exports::uvs::scheduler::feedback::Guest for Component {
                fn observe(events: alloc::vec::Vec<u64>) {
                    SLOT.observe(&events);
                }
            }

    $crate::wasm::observing::export_component!(Component with_types_in $crate::wasm::observing);
        };
    };
}

/// What all worlds have in common.
#[doc(hidden)]
#[macro_export]
macro_rules! component {
    ($scheduler:ty, $guest:path) => {
        extern crate alloc;
        use $crate::wasm::generated::uvs::scheduler::types;

        static SLOT: $crate::wasm::Slot<$scheduler> = $crate::wasm::Slot::new();

        struct Component;

        impl $guest for Component {
            fn init(
                service: alloc::string::String,
                options: alloc::string::String,
            ) -> Result<(), alloc::string::String> {
                SLOT.init(&service, &options)
            }

            fn update(destinations: alloc::vec::Vec<types::Destination>) {
                SLOT.update(&destinations);
            }

            fn schedule(flow: types::Flow, changed: alloc::vec::Vec<u64>) -> Option<u32> {
                SLOT.schedule(&flow, &changed)
            }

            fn save() -> alloc::vec::Vec<u8> {
                SLOT.save()
            }

            fn restore(state: alloc::vec::Vec<u8>) -> bool {
                SLOT.restore(&state)
            }
        }
    };
}
