//! What `UdpSocket` and `UnixDatagram` have in common: sending to and receiving from the connected peer, and waiting for either.

macro_rules! datagram {
    ($datagram:ident, $addr:ty, $recv:ident, $send:ident) => {
        use std::future::Future;
        use std::io;
        use std::task::{Context, Poll};

        use crate::net::ready::{Interest, Ready, ready_methods};
        use crate::net::registration::Registration;
        use crate::task::wait::WaitReason;

        impl $datagram {
            ready_methods!($recv, $send);

            /// The error that the socket has met and nobody was told, if there is one. It is told once.
            ///
            /// # Errors
            /// What the operating system says.
            pub fn take_error(&self) -> io::Result<Option<io::Error>> {
                self.registration.source().take_error()
            }

            /// Sends a datagram to the peer that the socket is connected to. Returns how many bytes of it were sent.
            ///
            /// # Errors
            /// What the operating system says, for instance that the socket is not connected.
            ///
            /// # Cancel safety
            /// Cancel safe: dropped before it is ready, it has sent nothing.
            #[track_caller]
            pub fn send<'a>(&'a self, buf: &'a [u8]) -> impl Future<Output = io::Result<usize>> + Send + 'a {
                self.registration.operation(WaitReason::$send, |socket| socket.send(buf))
            }

            /// [`send`](Self::send) without waiting.
            ///
            /// # Errors
            /// `WouldBlock` if nothing can be sent now; else what the operating system says.
            pub fn try_send(&self, buf: &[u8]) -> io::Result<usize> {
                self.registration.try_io(WaitReason::$send, |socket| socket.send(buf))
            }

            /// Receives a datagram from the peer that the socket is connected to. Returns its length; what does not fit into `buf` is
            /// lost.
            ///
            /// # Errors
            /// What the operating system says, for instance `ConnectionRefused`: nobody listens there.
            ///
            /// # Cancel safety
            /// Cancel safe: dropped before it is ready, it has received nothing.
            #[track_caller]
            pub fn recv<'a>(
                &'a self,
                buf: &'a mut [u8],
            ) -> impl Future<Output = io::Result<usize>> + Send + 'a {
                self.registration.operation(WaitReason::$recv, |socket| socket.recv(buf))
            }

            /// [`recv`](Self::recv) without waiting.
            ///
            /// # Errors
            /// `WouldBlock` if there is none now; else what the operating system says.
            pub fn try_recv(&self, buf: &mut [u8]) -> io::Result<usize> {
                self.registration.try_io(WaitReason::$recv, |socket| socket.recv(buf))
            }

            /// Receives a datagram, from whomever. Returns its length and who sent it; what does not fit into `buf` is lost.
            ///
            /// # Errors
            /// What the operating system says.
            ///
            /// # Cancel safety
            /// Cancel safe: dropped before it is ready, it has received nothing.
            #[track_caller]
            pub fn recv_from<'a>(
                &'a self,
                buf: &'a mut [u8],
            ) -> impl Future<Output = io::Result<(usize, $addr)>> + Send + 'a {
                self.registration.operation(WaitReason::$recv, |socket| socket.recv_from(buf))
            }

            /// [`recv_from`](Self::recv_from) without waiting.
            ///
            /// # Errors
            /// `WouldBlock` if there is none now; else what the operating system says.
            pub fn try_recv_from(&self, buf: &mut [u8]) -> io::Result<(usize, $addr)> {
                self.registration.try_io(WaitReason::$recv, |socket| socket.recv_from(buf))
            }

            /// [`recv_from`](Self::recv_from) as a poll function. The wait it leaves stands until the next poll.
            ///
            /// # Errors
            /// As there.
            #[track_caller]
            pub fn poll_recv_from(
                &self,
                cx: &mut Context<'_>,
                buf: &mut [u8],
            ) -> Poll<io::Result<(usize, $addr)>> {
                self.registration.poll_shared(cx, WaitReason::$recv, |socket| socket.recv_from(buf))
            }

            /// [`recv`](Self::recv) as a poll function. The wait it leaves stands until the next poll.
            ///
            /// # Errors
            /// As there.
            #[track_caller]
            pub fn poll_recv(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
                self.registration.poll_shared(cx, WaitReason::$recv, |socket| socket.recv(buf))
            }

            /// [`send`](Self::send) as a poll function. The wait it leaves stands until the next poll.
            ///
            /// # Errors
            /// As there.
            #[track_caller]
            pub fn poll_send(&self, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
                self.registration.poll_shared(cx, WaitReason::$send, |socket| socket.send(buf))
            }
        }
    };
}

pub(super) use datagram;
