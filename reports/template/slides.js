(function(){
var root=document.documentElement;
try{var kept=localStorage.getItem("btcml-theme");if(kept){root.dataset.theme=kept}}catch(e){}
document.addEventListener("DOMContentLoaded",function(){
var all=Array.prototype.slice.call(document.querySelectorAll(".slide")),at=Math.max(0,Math.min(all.length,+location.hash.slice(1)||1)-1);
function show(to){at=Math.max(0,Math.min(all.length-1,to));all.forEach(function(slide,i){slide.classList.toggle("on",i===at)});all[at].focus({preventScroll:true});history.replaceState(null,"","#"+(at+1))}
document.addEventListener("keydown",function(event){
if(event.altKey||event.ctrlKey||event.metaKey){return}
var steps={ArrowRight:1,ArrowDown:1,PageDown:1," ":1,ArrowLeft:-1,ArrowUp:-1,PageUp:-1};
if(event.key in steps){event.preventDefault();show(at+steps[event.key])}
if(event.key==="Home"){show(0)}
if(event.key==="End"){show(all.length-1)}
});
document.addEventListener("click",function(event){if(!event.target.closest("a")){show(at+(event.clientX<innerWidth/3?-1:1))}});
show(at);
});
})();
